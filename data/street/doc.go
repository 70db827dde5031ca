// Package street generates frames and clips of a small street: voxels, boxes of
// cars, trucks and pedestrians, lanes, and what four cameras see of them; and it
// reads the classes of such pictures back, exactly.
//
// Everything stands on a grid of 1 m voxels, x forward, y left, z up, the ego car at
// the origin: 32×32×4 voxels, x and y from −16 to 16, z from −1 to 3. A picture is
// cast by one ray through the centre of each pixel, from voxel to voxel, so class,
// instance and depth of a pixel are known without doubt.
//
//	set, err := street.New(data.DefaultSeed, street.Options{})
//	f := set.At(data.Test, 7)
//	classes := street.Read(f.Views[street.Front].Image()) // equals f.Views[street.Front].Cls
//
// The drawing rules, from the item's stream in this order: day or night; the road;
// the crossing road; the ego's speed; buildings and trees on the right, then on the
// left; the boxes; one word that keys the texture. A clip is the same draw looked at
// for 8 frames: the ego moves by whole metres along x and the boxes by whole metres
// along their own way, which is free of collisions in all frames. A frame is the
// first of such a clip, so its boxes have velocities too.
//
// A pixel's colour is that of its class, times the tint of its box, times the shade
// of the face that the ray enters (top 1, faces across x 0.85, across y 0.7), times
// the light (day 1, night 0.45), rounded half up, plus a texture of −4 to 4 a channel
// that belongs to the voxel: to the box's own voxel where it moves. A ray that leaves
// the grid sees the sky, a ramp over the rows. It is all whole numbers.
//
// Choices of ours where the specification leaves them open: the sizes in draw.go;
// the colours, found by a search for the greatest distance between classes at night;
// depth is along the optical axis and 0 for the sky; velocities are metres a frame;
// a caption counts the boxes that have a pixel in some view; views side by side are
// in the order front, right, back, left, in which neighbours share an edge.
package street
