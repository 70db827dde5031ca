// Package facades generates fronts of buildings, periodic in both directions, on a
// canvas that is known everywhere, and reads their periods, phases, window sizes,
// roof, ground and door back.
//
// A facade is a formula for every pixel of the plane. Its canvas is 96×96 pixels from
// (0, 0), or 192×192 from (−48, −48) for larger expansions; an item is a crop of
// 32×32: a random one in Train and Enc, the one in the middle, from (32, 32), in Val,
// Test and Ref, where it is the anchor of out-painting.
//
//	set := facades.New(data.DefaultSeed)
//	it := set.At(data.Test, 7)
//	whole := it.Facade.Draw(-48, -48, 192, 192) // what lies around the crop
//	read, err := facades.Read(it.Image())
//
// The drawing rules, from the item's stream in this order: wall, window, door and
// sky; storey height and bay width (4 to 8), the scale (1 or 2) that multiplies both
// and the windows; width and height of windows; the phases; roof, ground and bay of
// the door, each one of those that the rules allow. All this again until the facade
// belongs to the split, by its hash. Then row and column of a random crop; and all of
// it again until the crop's pixels belong to the split, by theirs. So no facade and no
// crop is in two splits.
//
// Choices of ours where the specification leaves them open: the colours; the roof is
// the storey boundary between rows 4 and 19, the ground that between 76 and 91, so
// that every crop shows 12 rows of building at least; below is pavement; the door
// takes the place of a window of the ground storey, reaches to the ground and lies
// between columns 24 and 71; the sky's ramp reaches from row −48 to row 19; walls have
// no texture. Ref has the crop of Test, not random ones, so that both have one
// distribution.
package facades
