// Package label is for pictures whose pixels are classes or memberships instead
// of colours: label maps with their palettes, regions and resizing, and the
// operations on masks that readers and editing methods need.
//
// A Map holds a class a pixel, a Field a number a pixel. Resizing a Map never
// makes a class that was not there: it takes the nearest pixel, or turns classes
// into shares of area. What lies beyond the border is said by each function; blur
// and Sobel mirror the picture there.
//
// It measures nothing that compares two maps (package fid/measure does) and
// knows no network.
//
//	m, err := palette.Read(img)           // colours to classes; unknown colours are an error that lists them
//	for _, r := range label.Components(m, false) {
//		fmt.Println(r.ID, r.Area, r.Box)
//	}
//	latent := m.Shares(9, 8, 8)           // float32 [9, 8, 8]: how much of each cell is of each class
package label
