package facades

import "github.com/fidlab/fidlab/data"

// golden are the hashes of the first 256 items of every split under
// data.DefaultSeed. They tell that nothing has changed; that it was right is for
// TestDrawingRules.
var golden = map[data.Split]string{
	data.Train: "7cf4cfac9cc631243c7cea4b7ea03955ad1b739b715701f99715c68242c4df6b",
	data.Val:   "ce533384724ecdd0a528161e6071196195427bd8b0aa98be82b7ff155a798c5d",
	data.Test:  "f29fd919bd5df71a4950192b62265539d3d47574d320d775b90b1eb6aba872fb",
	data.Ref:   "b583109ae20476e09aa730403f147564d0fc40a3408f8f2ac1ba06097e54b4a1",
	data.Enc:   "ecbd49cc44831fce18162bc0c001cc59b7f5d33c91df22d1817606f204812c11",
}
