// Package motion makes clips of a walking, jumping, turning, waving or standing
// body with captions, in the layouts of package motion of the root, and reads
// what a clip shows; and it reads the folders of HumanML3D and KIT-ML.
//
//	set := motion.New(data.DefaultSeed)
//	item := set.At(data.Test, 7)
//	rows := item.Rows(kin.HumanML3D)           // float32 [T, 263]
//	reading, err := motion.Read(item.Joints)    // what it shows
//	score, err := motion.Score(item.Captions[0], reading)
//
// # The clips
//
// 20 frames a second, 22 joints, T rows (a multiple of 4 from 40 to 64) of T+1
// frames. A body of 1.70 m is scaled by 0.95 to 1.05. Joint angles are sums of at
// most three sinusoids from a table of 64 steps; the legs are straight while they
// carry, and the root goes where the foot that carries, which stays exactly where
// it is, makes it go. A jump's root follows the parabola of its height.
//
// One clip in four is a compound: a walk that comes to a stop, then a wave or a
// jump. Walk 25 %, jump, turn and wave 15 % each, stand 5 %, the two compounds 12.5 %.
//
//	walk   forward (70 %) or backward, 0.6 to 1.4 m/s, 1.6 to 2.2 steps a second,
//	       straight (40 %) or with a heading that turns left or right, radius 1.5 to 4 m
//	jump   in place or forward by 0.3 to 0.8 m, 0.15 to 0.45 m high, once or twice
//	turn   left or right by 90, 180 or 360° on the spot
//	wave   left, right or both hands, 2 to 5 cycles (2 or 3 after a walk)
//
// "Slowly" is below 0.85 m/s, "quickly" above 1.15, "high" from 0.3 m on. Speeds
// within 0.06 m/s and heights within 0.02 m of these bounds are drawn again, so that
// the reader, which measures, and the words never disagree about a hair's breadth.
//
// # The reader
//
// Read measures joints, not parameters: flights, walked stretches, headings and the
// turning points of raised wrists; Score compares them with what a caption claims.
//
// # Folders
//
// OpenFolder reads a data set of the user's in the layout of HumanML3D or KIT-ML,
// with the rules of their published loaders: which motions are too short or too
// long, and how captions of a part cut it out.
//
//	f, err := motion.OpenFolder("HumanML3D")
//	summary, err := f.Each(ctx, "train", func(c motion.Clip) error { … })
//
// Motions that a list names and the folder lacks are left out and named in the summary.
package motion
