package facades

import "github.com/fidlab/fidlab/data"

// golden are the hashes of the first 256 items of every split under
// data.DefaultSeed. They tell that nothing has changed; that it was right is for
// TestDrawingRules.
var golden = map[data.Split]string{
	data.Train: "c84fcbacc0700ee3aae3fdae0f1beb1b9a023474b264056ac4e3d8fdd0b8f569",
	data.Val:   "21abc2a51b84fd3b865cf4de6fbc5423fa9bfdcb7c738adf909613c52f3071a9",
	data.Test:  "dd0a2a90d2a0dfc11a58beb52d62a93bce23d4803a62cff5bd1a8e37b0b92915",
	data.Ref:   "cc2c18ecb7c66203b77064f4625345600cb258283c4874bd0e2bd60539003a95",
	data.Enc:   "4ccc0b5f35653aef6d80380a6d3ef800bb34f4f2662e64e050c6aac9c8dacad3",
}
