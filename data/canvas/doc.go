// Package canvas puts MNIST's digits on larger pictures: mnist32, one digit
// somewhere on 32×32 pixels, and mnist64, one to three on 64×64 with a caption
// and masks. They are for where real pictures are wanted; what has no need of
// those takes data/shapes, whose reader is exact.
//
//	set, err := canvas.New64(data.DefaultSeed)  // reads MNIST, see package mnist
//	it := set.At(data.Test, 7)                  // it.Caption, it.Digits, it.Pix, it.Mask
//	found, err := canvas.Read(it.Image(), classify)
//
// The reader finds digits by their ink and asks a classifier what each is. The
// classifier is the caller's: in fidlab the network of the extractor mnist, which is
// right on 99.35 % of MNIST's test digits. What it gets wrong there belongs
// beside every figure that is read with it.
//
// # The rules
//
// Splits have digits of their own: train the first 40,000 of MNIST's training
// digits, enc the next 15,000, val the last 5,000; test those of MNIST's test
// digits with an even number and ref those with an odd one, because the second half
// of MNIST's test digits is harder than the first.
//
// Item i of mnist32 is digit i of its split, with the upper left corner of its
// 28×28 pixels at Intn(5), Intn(5).
//
// Of mnist64, from the item's stream: the number of digits, 1 + Intn(3); which,
// each Intn of the split's; then the corners, x and y by Intn(37) for each digit, all
// again until the boxes of their ink (pixels that are not black) are 4 pixels apart
// or more, so that pieces of one digit are nearer than two digits; one uniform
// draw for the caption. A caption of two digits tells their relation where there
// is one, by the rule of data/shapes at twice its lengths, in 9 of 10 items. The
// digits of a caption are in the order of the draw, which is random.
package canvas
