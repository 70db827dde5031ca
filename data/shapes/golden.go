package shapes

import "github.com/fidlab/fidlab/data"

// golden are the hashes of the first 256 items of every split under
// data.DefaultSeed (fidlab data hash): of pixels, masks, classes and truth.
// They tell that nothing has changed; that it was right is for the tests of drawing
// and rendering, which make all of it once more by other means.
var golden = map[string]map[data.Split]string{
	"shapes": {
		data.Train:  "8b3406b517430b44398dd47807864f89a33b6eefe052d849e1e753f09bf707e8",
		data.Val:    "843560a36a13b767852a0b272a9fa3eab4c273b3f2203550ba4d29e24113cbcd",
		data.Test:   "3107b6e38a93ee7b7a17f7225c0bf82612b8a60edbaf115e3b8b29c6cf1d39ff",
		data.Ref:    "2f716fe6ecb683052153250297a3c7aea9f4fb5ae58cdb20b13b012652456efb",
		data.Enc:    "a3883dad0ca811e6b04a9af5e4560c03a1bcb5d04f16ce8be5101b3b433b0a4b",
		TestUnseen:  "121bee29d884db73efecfb04c842b68caf2ad437d13105c086094aba1ec4e7d5",
		TestBinding: "5294096eee9108888d6488b29b400f051d504b6c7a7c8808280e286540451cd8",
		KB:          "e3e909d149cd2bda0642efcf6a0bf90a880c44fddfd28602b1ad79aea948c0ce",
	},
	"shapes16": {
		data.Train: "b200b01aa8294e667043075ac53fe685be8f7e036d5fc6a15ebcea8dce976179",
		data.Val:   "aa92254719830ab71775b1e20da21739b28dc4ad5eed0b4c6c396ee9793fa8e3",
		data.Test:  "8075d4ae9e725be05576bb33c37198f2548a48ecb110f9c22a0e4bb57861a62e",
		data.Ref:   "4e74ba75c81420958582ff9c33a7368b157631fdd7482b4a9a554d9096ac40a3",
		data.Enc:   "24665bd09b3e34570d2e849a95ac74edd47d526de3de021f639ae1ac3451fe37",
		TestUnseen: "3a8b75146475fb90468f935b4f394ff4c84eee166f740b8b13369d56b40c8da5",
	},
	"shapes-glyph": {
		data.Train: "48a18004f9d53535ef1ac85471e6347218926b341e79cdbbc4deab45f25be46c",
		data.Val:   "6a556734ef9970429a3a65e30e931c021cb54ffdf9a5a34796a0aae2b9a66d05",
		data.Test:  "b24c41aa0f930e12733b9c6a50c827bb3e10196231b72c533f5991765ec3ac73",
		data.Ref:   "6ae05f6c0e2321247656bc64d984a69946ec0cf3637917b3b889a326c6e55f0d",
		data.Enc:   "50e9a322a735d339ca3783d8ccd8874a1062e7e2a0b892b4aec8f8cb10ced12b",
		KB:         "e66af1b486a5d9fe2c55f2d87dd78c389669478e8b294b196f1d3958ea255985",
	},
}
