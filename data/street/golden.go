package street

import "github.com/fidlab/fidlab/data"

// golden are the hashes of the first 256 items of every split under
// data.DefaultSeed, or all of them where there are fewer. They tell that nothing has
// changed; that it was right is for the tests of the rules and of the pictures.
var (
	golden = map[data.Split]string{
		data.Train: "47bf8eaa725a861a19f8bf7c8a539f07ba4ba27f85d0e4eeb1aea7a6148c368c",
		data.Val:   "21bbb6ab5539eeba3e47ffacf0b9f10c548a761182b2077dba01c3f370b3712d",
		data.Test:  "5769962d30b95a7d3aad66d14e906749b7037ed5171c9ec6c68348ee2965871f",
		data.Ref:   "dc47d29be7040a30425b04c3dcc3a4578339677c8def10c891aa7c04639642de",
		data.Enc:   "917477de5479823e4bc166bfce4a8d800c678a0bb719a7401f12475ea2b83ac3",
	}
	goldenClips = map[data.Split]string{
		data.Train: "964ed3cf590600e5923436fec620a805f23d3ba301c69c04beb7af0abcaed566",
		data.Test:  "2995d9b828dfc88c3e85641197747353c984e58f52c05c8a20bb2af571900acd",
	}
)
