package motion

import (
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/text"
)

// TestGrammar: every caption of the grammar fits, is said by one claim alone, comes
// back from its tokens, and all 49 words are needed.
func TestGrammar(t *testing.T) {
	if Vocabulary.Len() != 52 {
		t.Errorf("%d ids, want 52", Vocabulary.Len())
	}
	said, used := map[string]Claim{}, map[string]bool{}
	longest := 0
	for _, c := range Claims() {
		for style := range Styles {
			s := c.Words(style)
			if other, twice := said[s]; twice {
				t.Errorf("%q is said of %+v and of %+v", s, other, c)
			}
			said[s] = c
			ids, err := Encode(s)
			if err != nil {
				t.Fatal(err)
			}
			back, err := Vocabulary.Decode(ids[:])
			if err != nil || back != s {
				t.Errorf("%q comes back as %q, %v", s, back, err)
			}
			for _, w := range text.Words(s) {
				used[w] = true
			}
			longest = max(longest, len(text.Words(s))+2)
			got, err := Parse(strings.ToUpper(s[:1]) + s[1:])
			if err != nil || got.Words(0) != c.Words(0) || got.Words(1) != c.Words(1) {
				t.Errorf("%q is parsed as %+v, %v", s, got, err)
			}
		}
	}
	// By hand: stand 1, walks 18, jumps 8, turns 6, waves 12, and after each of 18 walks
	// 6 waves or 4 jumps.
	if n := 1 + 18 + 8 + 6 + 12 + 18*(6+4); len(said) != 3*n {
		t.Errorf("%d captions, want %d", len(said), 3*n)
	}
	if len(used) != 49 {
		t.Errorf("%d words are used, want 49", len(used))
	}
	if longest > Slots {
		t.Errorf("a caption takes %d slots", longest)
	}
}

// TestCaptionsSayTheTruth: the words by an independent rule on the parameters.
func TestCaptionsSayTheTruth(t *testing.T) {
	each(t, 300, func(split data.Split, i int, it *Item, d Truth) {
		for style, caption := range d.Captions {
			has := func(words ...string) bool {
				for _, w := range words {
					if strings.Contains(" "+caption+" ", " "+w+" ") {
						return true
					}
				}
				return false
			}
			want := func(what string, got, want bool) {
				if got != want {
					t.Errorf("%s %d, style %d: %q of %+v: %s is %v", split, i, style, caption, d.Clauses, what, got)
				}
			}
			kinds := map[string]Clause{}
			for _, c := range d.Clauses {
				kinds[c.Action] = c
			}
			walk, walks := kinds["walk"]
			jump, jumps := kinds["jump"]
			turn, turns := kinds["turn"]
			wave, waves := kinds["wave"]
			want("walking", has("walks", "goes"), walks)
			want("jumping", has("jump", "jumps"), jumps)
			want("turning", has("turn", "turns"), turns)
			want("waving", has("waves"), waves)
			want("standing", has("stands", "stays"), !walks && !jumps && !turns && !waves)
			want("backward", has("backward"), walks && walk.Backward)
			want("slow", has("slow", "slowly"), walks && walk.Speed < 0.85)
			want("quick", has("fast", "quickly"), walks && walk.Speed > 1.15)
			want("curve", has("curving"), walks && walk.Radius > 0)
			want("curve left", has("curving left"), walks && walk.Path == "left")
			want("high", has("high"), jumps && jump.Height >= 0.3)
			want("low", has("low"), jumps && jump.Height < 0.3)
			want("place", has("in place"), jumps && !jump.Forward || has("stands in place"))
			want("twice", has("twice", "two high", "two low"), jumps && jump.Times == 2)
			want("half", has("half"), turns && turn.Degrees == 180)
			want("full", has("full"), turns && turn.Degrees == 360)
			want("turn right", turns && has("right"), turns && turn.Side == "right")
			want("both", has("both hands"), waves && wave.Side == "both")
			want("left hand", has("left hand"), waves && wave.Side == "left")
			for n, word := range map[int]string{2: "two", 3: "three", 4: "four", 5: "five"} {
				want(word+" times", has(word+" times"), waves && wave.Cycles == n)
			}
		}
		tokens := it.Tokens()
		if tokens[0][0] != text.Bos || it.Captions() != d.Captions || tokens[0] == tokens[1] {
			t.Errorf("%s %d: tokens %v", split, i, tokens)
		}
	})
}

func TestBadCaptions(t *testing.T) {
	for caption, want := range map[string]string{
		"a person wlaks forward": `"wlaks" is not in the vocabulary; did you mean "walks"?`, "": "an empty caption", " \t": "an empty caption",
		"a person walks": "outside the grammar; want a sentence such as", "a person dances": `"dances" is not among the 49 words`,
		"a person walks forward and turns left by a half turn": "outside the grammar", strings.Repeat("a ", 19): "19 words needs 21 slots", "<bos> a": `"<bos>"`,
	} {
		_, err := Parse(caption)
		wantError(t, caption, err, want)
	}
	if _, err := Encode("person a forward"); err != nil {
		t.Errorf("known words in no order are refused: %v", err)
	}
}
