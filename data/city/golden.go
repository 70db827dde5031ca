package city

import "github.com/fidlab/fidlab/data"

// golden are the hashes of the first 256 items of every split under
// data.DefaultSeed. They tell that nothing has changed; that it was right is for
// the tests of the drawing rules.
var golden = map[data.Split]string{
	data.Train: "79abd7b922fca1e8330cd28cc72d91d72d7059b49f9c7c5d6250bd2e78d2d825",
	data.Val:   "003b2919a1193ff2c4ea9c1db5e36619acbef6357c2756301c0fa2fb398fceeb",
	data.Test:  "7d69eda2ad99a6e71851b4a3b1df058f1ceb9119f74fe733e65e69e68726ddfe",
	ZeroShot:   "90f66860551306d3b9ab155270e1919bf63d6def2fea257520704a970220cd27",
	data.Ref:   "df0f49cb482a5f11e338a7a25de3b7cf1985d331878ae5a7db198b71dbb502bd",
	data.Enc:   "0299c6ffa41148067c2f406a8b02e30add56a08c7e82bcfcde77147e17dda778",
}
