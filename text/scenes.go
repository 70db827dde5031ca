package text

// Where the kinds of words begin in Scenes.
const (
	SceneWords    = 3   // 36 words of the grammar; up to 47 is free
	SceneDescribe = 48  // words that describe glyphs; up to 63
	SceneNouns    = 64  // 48 invented nouns, one a glyph
	SceneFree     = 112 // nothing yet
)

// Scenes is the vocabulary of 128 ids of the captions of scenes, for every model
// that reads them. An id never changes its word; free ids may get one.
var Scenes = NewVocabulary(sceneTable())

func sceneTable() []string {
	t := make([]string, 128)
	copy(t, []string{"<pad>", "<bos>", "<eos>"})
	copy(t[SceneWords:], []string{
		"a", "and", ",", "at", "the", "on", "of",
		"left", "right", "above", "below", "top", "middle", "bottom", "centre",
		"circle", "square", "triangle", "cross",
		"red", "yellow", "green", "cyan", "blue", "magenta",
		"dark", "light", "plain", "striped", "checkered", "background",
		"photo", "shape", "shapes", "two", "three",
	})
	copy(t[SceneDescribe:], []string{
		"like", "with", "ring", "lump", "snake", "fork", "tree", "foot", "hat", "back", "wing", "thin", "thick",
	})
	copy(t[SceneNouns:], []string{
		"tiba", "gati", "dovu", "tego", "zura", "favu", "bimo", "fibu", "depa", "doba", "vuti", "zeba", "luzi", "mifu", "gezo", "guto",
		"mebo", "nido", "dulo", "gafo", "gaku", "kero", "pamu", "tena", "bezi", "nofa", "duki", "fogu", "kuno", "remo", "rolu", "tuko",
		"mipa", "befo", "giko", "fupo", "nago", "vadu", "numi", "fali",
		"zobi", "tanu", "venu", "varo", "mepu", "zamo", "lopa", "kemu",
	})
	return t
}
