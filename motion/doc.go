// Package motion holds the feature layouts of text-to-motion work: rows of 263
// (HumanML3D), 251 (KIT-ML) and 67 numbers (root and joint positions alone),
// what turns joint positions into rows and back, per-channel statistics, and the
// tables that split a row by body part.
//
// A clip of joints is []float64 of [frames, joints, 3], y up, in metres (KIT: in its
// files' own unit). Rows are [rows, width] of float32 or float64. A clip
// of T+1 frames has T rows, because a row holds the step to the next frame.
//
// # A row
//
// In the order of the channels, for J joints:
//
//	root      1         half of the turn about y to the next frame, negated: −Δψ/2 (radians);
//	          2         the root's step in x and z, in the facing frame of the next frame
//	          1         the root's height
//	positions 3(J−1)    joints 1 … J−1: x and z from the root's, y from the floor, facing frame
//	rotations 6(J−1)    of each bone, the first two columns of its matrix
//	velocities 3J       steps of all joints to the next frame, facing frame of this one
//	contacts  4         left ankle, left foot, right ankle, right foot: 1 where the
//	                    squared step is below the skeleton's ContactLimit
//
// ψ is the body's heading, 0 along +z and growing towards +x, its left. The small
// layout ends after the positions. The layout is that of Guo et al., "Generating
// Diverse and Natural 3D Human Motions from Text", CVPR 2022, as their program
// (github.com/EricGuo5513/HumanML3D) writes it; the tests compare with its output.
//
// Three habits of that program are kept, because published files and weights
// rest on them, and one is not:
//   - every chain of bones starts from the root's rotation, also the arms';
//   - that rotation is the one that turns the body to +z, not its inverse, so the
//     rotation channels of the first bones change when the body turns;
//   - its facing direction, see Facing, and the Gaussian that smooths it, are in
//     the Options named Published; the zero Options take the direction itself;
//   - where the heading passes 180° the program's turn has the wrong sign for one
//     frame, and its recovered clip is off from there on. Here it is right.
package motion
