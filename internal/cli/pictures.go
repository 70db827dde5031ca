package cli

import (
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
)

// pictureShape reads a sample's shape as that of a picture: [H,W], [H,W,1] or [H,W,3].
func pictureShape(shape []int) (h, w, c int, ok bool) {
	switch {
	case len(shape) == 2:
		return shape[0], shape[1], 1, true
	case len(shape) == 3 && (shape[2] == 1 || shape[2] == 3):
		return shape[0], shape[1], shape[2], true
	}
	return 0, 0, 0, false
}

// picture turns the values of one sample, lo for black and hi for white, into
// 8 bits: scaled, rounded to nearest and clipped.
func toPicture(x []float64, h, w, c int, lo, hi float64) image.Image {
	u8 := func(v float64) uint8 {
		return uint8(math.Round(255 * min(max((v-lo)/(hi-lo), 0), 1)))
	}
	if c == 1 {
		m := image.NewGray(image.Rect(0, 0, w, h))
		for i, v := range x {
			m.Pix[i] = u8(v)
		}
		return m
	}
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range h * w {
		m.Pix[4*i], m.Pix[4*i+1], m.Pix[4*i+2], m.Pix[4*i+3] = u8(x[3*i]), u8(x[3*i+1]), u8(x[3*i+2]), 255
	}
	return m
}

// sheetMargin is the space between the pictures of a sheet.
const sheetMargin = 2

// contactSheet puts pictures of one size side by side in a square of rows.
func contactSheet(pictures []image.Image) image.Image {
	cols := int(math.Ceil(math.Sqrt(float64(len(pictures)))))
	rows := (len(pictures) + cols - 1) / cols
	size := pictures[0].Bounds().Size()
	stepX, stepY := size.X+sheetMargin, size.Y+sheetMargin
	sheet := image.NewNRGBA(image.Rect(0, 0, cols*stepX+sheetMargin, rows*stepY+sheetMargin))
	for i := range sheet.Pix {
		sheet.Pix[i] = 0x80
		if i%4 == 3 {
			sheet.Pix[i] = 0xff
		}
	}
	for i, m := range pictures {
		x0, y0 := sheetMargin+i%cols*stepX, sheetMargin+i/cols*stepY
		for y := range size.Y {
			for x := range size.X {
				sheet.SetNRGBA(x0+x, y0+y, color.NRGBAModel.Convert(m.At(x, y)).(color.NRGBA))
			}
		}
	}
	return sheet
}

// writePNG writes a file that is not yet under its final name: its folder is.
func writePNG(path string, m image.Image) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	if err := png.Encode(f, m); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
