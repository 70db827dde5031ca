// Package geom is plane and voxel geometry with fixed rules: polygons and their
// raster, convex hulls, contours of a mask, pinhole cameras, the walk of a ray
// through voxels, and the coordinates of crops.
//
// It draws no pictures and knows no data set; it imports the standard library
// alone. The one rule to know is that of pixel centres: pixel (x, y) is the
// square from (x, y) to (x+1, y+1), y pointing down, and a shape covers it when
// the shape contains the centre (x+½, y+½). A centre on an edge belongs to the
// shape on its right, on a horizontal edge to the shape below, so that shapes
// that share an edge share no pixel and leave none out.
//
// Decisions are made with additions, products, quotients and comparisons of
// float64; products are rounded before they are added (no fused multiply-add), so
// that the same pixels come out on every processor.
//
//	p := geom.Polygon{geom.Box(2, 1, 6, 4)} // first ring: outline; further rings: holes
//	p.Fill(mask, 8, 8, 1)
//	for _, q := range geom.Contours(mask, 8, 8) {
//		fmt.Println(q.Area())
//	}
package geom
