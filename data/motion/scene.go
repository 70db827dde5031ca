package motion

import (
	"math"

	"github.com/fidlab/fidlab/data"
)

// Clause is one thing that the body does, with the parameters of the controller.
type Clause struct {
	Action   string  `json:"action"`             // walk, jump, turn, wave or stand
	Backward bool    `json:"backward,omitempty"` // walk
	Speed    float64 `json:"speed,omitempty"`    // walk, m/s
	Cadence  float64 `json:"cadence,omitempty"`  // walk, steps a second
	Path     string  `json:"path,omitempty"`     // walk: straight, left or right
	Radius   float64 `json:"radius,omitempty"`   // walk, m, of a curve
	Swing    float64 `json:"swing,omitempty"`    // walk, of the arms, radians
	Phase    float64 `json:"phase,omitempty"`    // walk: steps made at the first frame; of a compound, at the stop
	Forward  bool    `json:"forward,omitempty"`  // jump
	Distance float64 `json:"distance,omitempty"` // jump forward, m
	Height   float64 `json:"height,omitempty"`   // jump, m of the root over standing
	Times    int     `json:"times,omitempty"`    // jump
	Side     string  `json:"side,omitempty"`     // turn: left, right; wave: left, right or both
	Degrees  int     `json:"degrees,omitempty"`  // turn: 90, 180 or 360
	Cycles   int     `json:"cycles,omitempty"`   // wave
	Reach    float64 `json:"reach,omitempty"`    // wave, of the forearm to either side, radians
	Period   int     `json:"period,omitempty"`   // wave, frames a cycle
}

// Truth is what is known of a clip.
type Truth struct {
	Clauses  []Clause  `json:"clauses"` // one, or a walk and what follows it
	Rows     int       `json:"rows"`    // T
	Lead     int       `json:"lead"`    // frames of standing before the only clause begins
	Walked   int       `json:"walked"`  // frames before the stop of a compound
	Scale    float64   `json:"scale"`   // of the body
	Sway     float64   `json:"sway"`    // phase of the trunk's sway, turns
	Captions [3]string `json:"captions"`
}

// The frames that the parts of an action take.
const (
	minRows, maxRows = 40, 64
	crouch           = 7 // before a jump, and after it
	raise            = 7 // of an arm, and the way down
	leastWalk        = 20
	turnStep         = 7 // of each step of a turn on the spot
	leastCycle       = 7 // of a wave
)

// The bounds of the adverbs, and the bands around them that are not drawn.
const (
	slowBelow, quickAbove = 0.85, 1.15
	highFrom              = 0.30
	speedBand, heightBand = 0.06, 0.02
)

// flight is the number of frames that a jump is in the air: 2·sqrt(2h/g) seconds.
func flight(height float64) float64 { return float64(40 * math.Sqrt(float64(2*height)/gravity)) }

// jumpFrames are those of one jump with its crouches.
func jumpFrames(height float64) int { return crouch + int(math.Ceil(flight(height))) + crouch }

// closing is the number of frames of the last step, in which the feet come together.
func closing(cadence float64) int { return int(math.Floor(20/cadence + 0.5)) }

// redraw is uniform in [lo,hi), drawn again within band of the bounds.
func redraw(s *data.Stream, lo, hi, band float64, bounds ...float64) float64 {
	for {
		v := s.Uniform(lo, hi)
		near := false
		for _, b := range bounds {
			near = near || math.Abs(v-b) < band
		}
		if !near {
			return v
		}
	}
}

func drawWalk(s *data.Stream) Clause {
	c := Clause{Action: "walk", Backward: s.Chance(0.3), Speed: redraw(s, 0.6, 1.4, speedBand, slowBelow, quickAbove), Cadence: s.Uniform(1.6, 2.2)}
	c.Path = []string{"straight", "left", "right"}[s.Pick([]float64{0.4, 0.3, 0.3})]
	if r := s.Uniform(1.5, 4); c.Path != "straight" {
		c.Radius = r
	}
	c.Swing, c.Phase = s.Uniform(0.2, 0.6), s.Uniform(0, 2)
	return c
}

func drawJump(s *data.Stream, most int) Clause {
	c := Clause{Action: "jump", Forward: s.Chance(0.5), Height: redraw(s, 0.15, 0.45, heightBand, highFrom), Times: s.Between(1, most)}
	if d := s.Uniform(0.3, 0.8); c.Forward {
		c.Distance = d
	}
	return c
}

func drawWave(s *data.Stream, most int) Clause {
	side := []string{"left", "right", "both"}[s.Intn(3)]
	return Clause{Action: "wave", Side: side, Cycles: s.Between(2, most), Reach: s.Uniform(0.5, 0.8), Period: leastCycle}
}

// draw makes the truth of an item: what it does, the body, the parameters, and then
// a length among those that it fits into.
func draw(s *data.Stream) Truth {
	var t Truth
	kind := s.Pick([]float64{25, 15, 15, 15, 5, 12.5, 12.5})
	t.Scale, t.Sway = s.Uniform(0.95, 1.05), s.Float64()
	need := minRows + 1 // frames
	switch kind {
	case 0:
		t.Clauses = []Clause{drawWalk(s)}
	case 1:
		c := drawJump(s, 2)
		need = max(need, c.Times*jumpFrames(c.Height)+2)
		t.Clauses = []Clause{c}
	case 2:
		c := Clause{Action: "turn", Side: []string{"left", "right"}[s.Intn(2)], Degrees: []int{90, 180, 360}[s.Intn(3)]}
		need = max(need, map[int]int{90: 0, 180: 49, 360: 61}[c.Degrees]) // a quicker turn would twist the legs
		t.Clauses = []Clause{c}
	case 3:
		c := drawWave(s, 5)
		need = max(need, c.Cycles*leastCycle+2*raise+2)
		t.Clauses = []Clause{c}
	case 4:
		t.Clauses = []Clause{{Action: "stand"}}
	case 5:
		walk, wave := drawWalk(s), drawWave(s, 3)
		need = max(need, leastWalk+closing(walk.Cadence)+raise+wave.Cycles*leastCycle+1)
		t.Clauses = []Clause{walk, wave}
	case 6:
		walk, jump := drawWalk(s), drawJump(s, 1)
		need = max(need, leastWalk+closing(walk.Cadence)+jumpFrames(jump.Height)+1)
		t.Clauses = []Clause{walk, jump}
	}
	shortest := (need - 1 + 3) / 4 * 4
	t.Rows = shortest + 4*s.Intn((maxRows-shortest)/4+1)
	t.share(s, t.Rows+1)
	for i := range t.Captions {
		t.Captions[i] = claimOf(t).Words(i)
	}
	return t
}

// share gives out the frames that are left over: to the periods of a single wave,
// to the walk before a stop, and before the action begins.
func (t *Truth) share(s *data.Stream, frames int) {
	last := &t.Clauses[len(t.Clauses)-1]
	walk := t.Clauses[0]
	switch {
	case len(t.Clauses) == 2:
		after := jumpFrames(last.Height) + 1
		if last.Action == "wave" {
			after = raise + last.Cycles*leastCycle + 1
		}
		spare := frames - closing(walk.Cadence) - after - leastWalk
		t.Walked = leastWalk + s.Intn(spare+1)
		t.Clauses[0].Phase = float64(s.Intn(2)) // the stop comes at the end of a step, of either foot
	case last.Action == "wave":
		room := frames - 2*raise - 2
		last.Period = s.Between(leastCycle, min(14, room/last.Cycles))
		t.Lead = s.Intn(room - last.Period*last.Cycles + 1)
	case last.Action == "jump":
		t.Lead = s.Intn(frames - last.Times*jumpFrames(last.Height) - 1)
	}
}
