package motion

import (
	"fmt"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/text"
)

// Claim is what a caption says, and what the reader says in the same terms. A
// caption has one field set, or Walk and then Wave or Jump; the reader sets all
// that it sees, and Stand when it sees nothing.
type Claim struct {
	Walk  *WalkClaim `json:"walk,omitempty"`
	Jump  *JumpClaim `json:"jump,omitempty"`
	Turn  *TurnClaim `json:"turn,omitempty"`
	Wave  *WaveClaim `json:"wave,omitempty"`
	Stand bool       `json:"stand,omitempty"`
}

// WalkClaim says how the body walks.
type WalkClaim struct {
	Backward bool   `json:"backward"`
	Pace     string `json:"pace"` // slow, normal or quick
	Path     string `json:"path"` // straight, left or right
}

// JumpClaim says how it jumps.
type JumpClaim struct {
	Forward bool `json:"forward"`
	High    bool `json:"high"`
	Times   int  `json:"times"`
}

// TurnClaim says how it turns on the spot.
type TurnClaim struct {
	Side    string `json:"side"`
	Degrees int    `json:"degrees"`
}

// WaveClaim says how it waves.
type WaveClaim struct {
	Side   string `json:"side"` // left, right or both
	Cycles int    `json:"cycles"`
}

// pace is the adverb of a speed in m/s.
func pace(speed float64) string {
	switch {
	case speed < slowBelow:
		return "slow"
	case speed > quickAbove:
		return "quick"
	}
	return "normal"
}

// claimOf puts a truth in the terms of captions.
func claimOf(t Truth) (c Claim) {
	for _, k := range t.Clauses {
		switch k.Action {
		case "walk":
			c.Walk = &WalkClaim{k.Backward, pace(k.Speed), k.Path}
		case "jump":
			c.Jump = &JumpClaim{k.Forward, k.Height >= highFrom, k.Times}
		case "turn":
			c.Turn = &TurnClaim{k.Side, k.Degrees}
		case "wave":
			c.Wave = &WaveClaim{k.Side, k.Cycles}
		case "stand":
			c.Stand = true
		}
	}
	return c
}

// Claim is the truth in the terms of captions.
func (t Truth) Claim() Claim { return claimOf(t) }

// Styles is the number of ways to say a claim.
const Styles = 3

// Words is the claim as a sentence, in one of the three styles.
func (c Claim) Words(style int) string {
	var verbs []string
	if c.Walk != nil {
		verbs = append(verbs, c.Walk.words(style))
	}
	if c.Jump != nil {
		verbs = append(verbs, c.Jump.words(style))
	}
	if c.Turn != nil {
		verbs = append(verbs, c.Turn.words(style))
	}
	if c.Wave != nil {
		verbs = append(verbs, c.Wave.words(style))
	}
	if c.Stand {
		verbs = append(verbs, [Styles]string{"stands still", "stays still", "stands in place"}[style])
	}
	return [Styles]string{"a person ", "someone ", "the person "}[style] + strings.Join(verbs, [Styles]string{" and ", " then ", " then "}[style])
}

func (w *WalkClaim) words(style int) string {
	way := "forward"
	if w.Backward {
		way = "backward"
	}
	var s string
	adverb := map[string]string{"slow": "slowly", "quick": "quickly"}[w.Pace]
	switch {
	case w.Pace == "normal" && style == 2:
		s = "goes " + way
	case w.Pace == "normal":
		s = "walks " + way
	case style == 0:
		s = "walks " + way + " " + adverb
	case style == 1:
		s = adverb + " walks " + way
	default:
		s = "goes " + way + " at a " + map[string]string{"slow": "slow", "quick": "fast"}[w.Pace] + " pace"
	}
	if w.Path != "straight" {
		s += " curving " + w.Path
	}
	return s
}

func (j *JumpClaim) words(style int) string {
	height, way, number := "low", "in place", count(j.Times)+" times"
	switch j.Times {
	case 1:
		number = "once"
	case 2:
		number = "twice"
	}
	if j.High {
		height = "high"
	}
	if j.Forward {
		way = "forward"
	}
	switch {
	case style == 0:
		return fmt.Sprintf("jumps %s %s %s", height, way, number)
	case style == 1 && j.Times == 1:
		return fmt.Sprintf("makes a %s jump %s", height, way)
	case style == 1:
		return fmt.Sprintf("makes %s %s jumps %s", count(j.Times), height, way)
	}
	return fmt.Sprintf("jumps %s %s and %s", number, height, way)
}

func (t *TurnClaim) words(style int) string {
	part := map[int]string{90: "quarter", 180: "half", 360: "full"}[t.Degrees]
	switch style {
	case 0:
		return fmt.Sprintf("turns %s by a %s turn", t.Side, part)
	case 1:
		return fmt.Sprintf("makes a %s turn to the %s", part, t.Side)
	}
	return fmt.Sprintf("turns to the %s in a %s turn", t.Side, part)
}

func (w *WaveClaim) words(style int) string {
	hand := "the " + w.Side + " hand"
	if w.Side == "both" {
		hand = "both hands"
	}
	number := count(w.Cycles)
	switch style {
	case 0:
		return fmt.Sprintf("waves with %s %s times", hand, number)
	case 1:
		return fmt.Sprintf("raises %s and waves %s times", hand, number)
	}
	return fmt.Sprintf("waves %s %s times", hand, number)
}

// count is a number in words. Captions have two to five; a reading may have more.
func count(n int) string {
	if n < 0 || n > 5 {
		return fmt.Sprint(n)
	}
	return [6]string{"no", "one", "two", "three", "four", "five"}[n]
}

// Claims lists everything that a caption of the grammar can say.
func Claims() []Claim {
	var walks []*WalkClaim
	for _, back := range []bool{false, true} {
		for _, p := range []string{"slow", "normal", "quick"} {
			for _, path := range []string{"straight", "left", "right"} {
				walks = append(walks, &WalkClaim{back, p, path})
			}
		}
	}
	out := []Claim{{Stand: true}}
	for _, w := range append([]*WalkClaim{nil}, walks...) {
		if w != nil {
			out = append(out, Claim{Walk: w})
		}
		for _, side := range []string{"left", "right", "both"} {
			for n := 2; n <= 5 && (w == nil || n <= 3); n++ {
				out = append(out, Claim{Walk: w, Wave: &WaveClaim{side, n}})
			}
		}
		for _, forward := range []bool{false, true} {
			for _, high := range []bool{false, true} {
				for n := 1; n <= 2 && (w == nil || n == 1); n++ {
					out = append(out, Claim{Walk: w, Jump: &JumpClaim{forward, high, n}})
				}
			}
		}
	}
	for _, side := range []string{"left", "right"} {
		for _, d := range []int{90, 180, 360} {
			out = append(out, Claim{Turn: &TurnClaim{side, d}})
		}
	}
	return out
}

// grammar maps every caption to what it says.
var grammar = sync.OnceValue(func() map[string]Claim {
	m := map[string]Claim{}
	for _, c := range Claims() {
		for style := range Styles {
			m[c.Words(style)] = c
		}
	}
	return m
})

// Parse is what a caption says. It refuses words outside the vocabulary, naming
// the nearest known one, and sentences outside the grammar.
func Parse(caption string) (Claim, error) {
	c, ok := grammar()[strings.Join(text.Words(strings.ToLower(caption)), " ")]
	if ok {
		return c, nil
	}
	if _, err := Encode(caption); err != nil {
		return c, err
	}
	example := Claim{Walk: &WalkClaim{Pace: "slow", Path: "straight"}, Wave: &WaveClaim{Side: "right", Cycles: 2}}
	return c, data.Errorf("motion: the caption %q is outside the grammar; want a sentence such as %q", caption, example.Words(0))
}

// Slots is the number of tokens of a caption.
const Slots = 20

// Vocabulary is the list of the 52 ids. The order is part of every encoder's meaning.
var Vocabulary = text.NewVocabulary(strings.Fields(`<pad> <bos> <eos>
	a person someone the and then walks goes forward backward slowly quickly at slow fast pace curving left right to
	jumps jump makes high low in place once twice two three four five times turns turn quarter half full by
	waves with hand hands both raises stands stays still`))

// Encode writes a caption in ids of the vocabulary: <bos>, the words, <eos>, then
// padding. It refuses other words, an empty caption and one of more than 18 words.
func Encode(caption string) (ids [Slots]uint8, err error) {
	if len(text.Words(caption)) == 0 {
		return ids, data.Errorf("motion: an empty caption; want a sentence of 1 to %d words", Slots-2)
	}
	if err := Vocabulary.Encode(ids[:], strings.ToLower(caption)); err != nil {
		return ids, data.Errorf("motion: the caption %q: %w", caption, err)
	}
	return ids, nil
}
