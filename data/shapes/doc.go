// Package shapes generates scenes of one to three coloured objects before a gray
// background, 32×32 pixels, with captions, masks and the exact truth, and reads
// pictures back: how many objects, which, where.
//
//	set := shapes.New(data.DefaultSeed)
//	it := set.At(data.Test, 7)       // it.Caption, it.Objects, it.Pix, it.Mask, it.Seg
//	dets := shapes.Read(it.Image())  // what the picture shows
//	shapes.Score(it.Caption, dets)   // whether it shows what the caption says
//
// Sets: shapes; shapes16, one object of radius 3 or 4 on 16×16 pixels; and
// shapes-glyph, one of 48 invented figures with invented names, of which train
// has shown 32 often, 8 five times and 8 never. Options: only=N keeps scenes of N
// objects, pairs=seen or unseen those without or with a pair of Heldout, size=64
// to 256 draws the same scenes larger, style=binary or gray takes the colour
// out, texture=background or objects replaces flat areas. Objects do not move
// when an option changes.
//
// # How a scene is drawn
//
// From the item's stream, in this order: the number of objects, 1 + Intn(3);
// for each object shape Intn(4) and colour 1 + Intn(6), both again until the
// pair is allowed; then up to 40 places, each a radius 5 + Intn(3), at most 6
// among three, and x and y by Between with one free pixel at the border, until
// the greater of |dx| and |dy| to each earlier object is r1 + r2 + 2 or more.
// Where 40 do not fit, all begins again, so larger numbers of objects are rarer:
// 41, 35 and 24 %. Then Shuffle of the objects; level 32 + 64·Intn(4), pattern Intn(4) and
// period 4 + 2·Intn(3) of the background. Then all begins again unless the split
// owns the scene: a hash shares out what can be seen among the splits, so that no
// two of them show the same. Last, three uniform draws for the form of the
// caption, its articles and its background words.
//
// Not allowed are: a pair that an earlier object has; in train, val and enc the
// pairs of Heldout, and, of two objects, two pairs that stand together in
// test-binding. There, the two pairs are one draw from a list, the first of all,
// and the swapped twin shares everything else. A scene of test-unseen begins again until it
// shows a pair of Heldout. Test and ref show all pairs.
//
// # The choices left open by the rules above
//
// Two pairs are held out for binding together, in both orders, so that no scene of
// two objects in train has the content of a binding test; 40 % of all are, by a
// fixed shuffle. The prompts of test-binding are those of them whose shapes and
// whose colours differ and whose twin needs no pair of Heldout, so binding is
// all that is new. In gray pictures an object has level 240 before a dark
// background and 16 before a light one.
package shapes
