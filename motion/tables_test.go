package motion

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLayout: widths, groups that tile the row, and accessors that agree with the
// sizes of the groups.
func TestLayout(t *testing.T) {
	for width, want := range map[int]struct {
		l      *Layout
		joints int
		groups []int
	}{263: {HumanML3D, 22, []int{1, 2, 1, 63, 126, 66, 4}}, 251: {KIT, 21, []int{1, 2, 1, 60, 120, 63, 4}}, 67: {Small, 22, []int{1, 2, 1, 63}}} {
		l, err := LayoutOf(width)
		if err != nil || l != want.l || l.joints() != want.joints || l.Width != width {
			t.Fatalf("layout of %d: %v, %v", width, l, err)
		}
		at := 0
		for i, g := range l.Groups() {
			if g.From != at || g.To-g.From != want.groups[i] {
				t.Errorf("%s: group %s is %d to %d; want %d channels from %d", l.Name, g.Name, g.From, g.To, want.groups[i], at)
			}
			at = g.To
		}
		if at != width || len(l.Groups()) != len(want.groups) {
			t.Errorf("%s: groups end at %d", l.Name, at)
		}
		g := l.Groups()
		if l.Position(1) != g[3].From || l.Position(l.joints()-1)+3 != g[3].To {
			t.Errorf("%s: positions", l.Name)
		}
		if l.Full() && (l.Rotation(1) != g[4].From || l.Rotation(l.joints()-1)+6 != g[4].To || l.Velocity(0) != g[5].From ||
			l.Velocity(l.joints()-1)+3 != g[5].To || l.Contacts() != g[6].From) {
			t.Errorf("%s: rotations, velocities or contacts", l.Name)
		}
	}
	for _, s := range []*Skeleton{smpl, mmm} {
		seen := map[int]bool{0: true}
		for _, c := range s.Chains {
			for i := 1; i < len(c); i++ {
				if !seen[c[i-1]] || seen[c[i]] || s.Parents[c[i]] != c[i-1] || norm(s.Rest[c[i]]) != 1 {
					t.Errorf("%s: joint %d of chain %v", s.Name, c[i], c)
				}
				seen[c[i]] = true
			}
		}
		if len(seen) != len(s.Parents) || len(s.Joints) != len(s.Parents) || len(s.Rest) != len(s.Parents) {
			t.Errorf("%s: %d joints in chains of %d", s.Name, len(seen), len(s.Parents))
		}
	}
}

func widths(p *Parts) (w []int) {
	for _, part := range p.List {
		w = append(w, len(part.Channels))
	}
	return w
}

// TestParts: the widths of the papers, partitions, and that a joint's channels and
// a leg's contacts stay together.
func TestParts(t *testing.T) {
	for _, c := range []struct {
		p      *Parts
		want   []int
		shared int // joint in three parts; 0: the parts are a partition
	}{
		{SixParts(HumanML3D, SharedByAll), []int{7, 50, 50, 60, 60, 60}, 9},
		{SixParts(HumanML3D, SharedBySpine), []int{7, 50, 50, 60, 48, 48}, 0},
		{SixParts(KIT, SharedByAll), []int{7, 62, 62, 48, 48, 48}, 3},
		{SixParts(KIT, SharedBySpine), []int{7, 62, 62, 48, 36, 36}, 0},
		{SixParts(Small, SharedByAll), []int{4, 12, 12, 15, 15, 15}, 9},
		{SixParts(Small, SharedBySpine), []int{4, 12, 12, 15, 12, 12}, 0},
		{Halves(HumanML3D), []int{156, 107}, 0},
		{Halves(KIT), []int{120, 131}, 0},
		{Halves(Small), []int{39, 28}, 0},
	} {
		l := c.p.Layout
		if got := widths(c.p); !slices.Equal(got, c.want) {
			t.Errorf("%s: widths %v, want %v", l.Name, got, c.want)
		}
		n := c.p.owners()
		for ch, k := range n {
			want := 1
			if c.shared > 0 {
				own := ch >= l.Position(c.shared) && ch < l.Position(c.shared)+3
				if l.full {
					own = own || ch >= l.Rotation(c.shared) && ch < l.Rotation(c.shared)+6 || ch >= l.Velocity(c.shared) && ch < l.Velocity(c.shared)+3
				}
				if own {
					want = 3
				}
			}
			if k != want {
				t.Errorf("%s: channel %d is in %d parts, want %d", l.Name, ch, k, want)
			}
		}
		for _, part := range c.p.List {
			for _, j := range part.Joints {
				if j == 0 || !l.full {
					continue
				}
				for _, run := range [][2]int{{l.Position(j), 3}, {l.Rotation(j), 6}, {l.Velocity(j), 3}} {
					for k := range run[1] {
						if !slices.Contains(part.Channels, run[0]+k) {
							t.Errorf("%s, %s: channel %d of joint %d is missing", l.Name, part.Name, run[0]+k, j)
						}
					}
				}
			}
			for k, j := range []int{l.Skeleton.LeftFoot[0], l.Skeleton.LeftFoot[1], l.Skeleton.RightFoot[0], l.Skeleton.RightFoot[1]} {
				if l.full && slices.Contains(part.Joints, j) != slices.Contains(part.Channels, l.Contacts()+k) {
					t.Errorf("%s, %s: joint %d and its contact are apart", l.Name, part.Name, j)
				}
			}
		}
	}
	p := SixParts(HumanML3D, SharedByAll)
	for _, name := range []string{"left arm", "Left-Arm", "LEFT_ARM"} {
		if i, err := p.Index(name); i != 5 || err != nil {
			t.Errorf("%q is part %d, %v", name, i, err)
		}
	}
}

// TestSplitMerge: exact on truth, also where thirds are not; the mean of three that
// differ; the disagreement is the largest difference.
func TestSplitMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, l := range []*Layout{HumanML3D, KIT, Small} {
		for _, p := range []*Parts{SixParts(l, SharedByAll), SixParts(l, SharedBySpine), Halves(l)} {
			rows := make([]float32, 5*l.Width)
			for i := range rows {
				rows[i] = float32(r.NormFloat64())
			}
			parts, err := Split(p, rows)
			if err != nil {
				t.Fatal(err)
			}
			back, err := Merge(p, parts)
			if err != nil || !slices.Equal(back, rows) {
				t.Errorf("%s, %d parts: not the same rows, %v", l.Name, len(p.List), err)
			}
			if d, ch, err := Disagreement(p, parts); d != 0 || err != nil || (ch >= 0) != (len(p.List) == 6 && len(p.List[4].Joints) == len(l.Skeleton.Chains[4])) {
				t.Errorf("%s: disagreement %v at %d, %v", l.Name, d, ch, err)
			}
		}
	}
	p := SixParts(HumanML3D, SharedByAll)
	rows := make([]float64, 2*263)
	for i := range rows {
		rows[i] = r.NormFloat64()
	}
	parts, _ := Split(p, rows)
	c := HumanML3D.Rotation(9) + 4
	for i, add := range map[int]float64{3: 0.3, 4: -0.9, 5: 0.1} {
		parts[i][len(p.List[i].Channels)+slices.Index(p.List[i].Channels, c)] += add
	}
	back, err := Merge(p, parts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		want := rows[i]
		if i == 263+c {
			want += (0.3 - 0.9 + 0.1) / 3
		}
		if math.Abs(back[i]-want) > 1e-15 {
			t.Errorf("number %d is %v, want %v", i, back[i], want)
		}
	}
	if d, ch, err := Disagreement(p, parts); math.Abs(d-1.2) > 1e-12 || ch != c || err != nil {
		t.Errorf("disagreement %v at %d, %v; want 1.2 at %d", d, ch, err, c)
	}
	_, err = Merge(p, parts[:5])
	wantError(t, "five parts", err, "5 parts; want 6")
	parts[2] = parts[2][:50]
	_, err = Merge(p, parts)
	wantError(t, "a short part", err, "left leg has 50 numbers; want 2 rows")
	_, err = Merge(p, make([][]float64, 6))
	wantError(t, "empty parts", err, "root has 0 numbers")
	_, err = Split(p, rows[:100])
	wantError(t, "part of a row", err, "100 numbers")
}

// TestStats: two passes in the plain way; normalised rows have mean 0 and, in the
// mean of a group, deviation 1.
func TestStats(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, l := range []*Layout{HumanML3D, KIT, Small} {
		s := NewSums(l)
		var all []float32
		for clip := range 4 {
			rows := make([]float32, (3+clip)*l.Width)
			for i := range rows {
				rows[i] = float32(1000 + float64(i%l.Width) + float64(1+i%l.Width%5)*r.NormFloat64())
			}
			all = append(all, rows...)
			if err := s.Add(rows); err != nil {
				t.Fatal(err)
			}
		}
		st, err := s.Stats()
		if err != nil {
			t.Fatal(err)
		}
		n := len(all) / l.Width
		mean, std := make([]float64, l.Width), make([]float64, l.Width)
		for i, v := range all {
			mean[i%l.Width] += float64(v) / float64(n)
		}
		for i, v := range all {
			std[i%l.Width] += (float64(v) - mean[i%l.Width]) * (float64(v) - mean[i%l.Width]) / float64(n)
		}
		for _, g := range l.Groups() {
			sum := 0.0
			for c := g.From; c < g.To; c++ {
				sum += math.Sqrt(std[c]) / float64(g.To-g.From)
			}
			for c := g.From; c < g.To; c++ {
				std[c] = sum
			}
		}
		near(t, "mean", st.Mean, mean, 1e-9)
		near(t, "std", st.Std, std, 1e-9)
		x := Widen(all)
		if err := Normalize(st, x); err != nil {
			t.Fatal(err)
		}
		for i := range x {
			if want := (float64(all[i]) - mean[i%l.Width]) / std[i%l.Width]; math.Abs(x[i]-want) > 1e-8 {
				t.Fatalf("normalised %d is %v, want %v", i, x[i], want)
			}
		}
		to := &Stats{l, make([]float64, l.Width), make([]float64, l.Width)}
		for c := range to.Std {
			to.Mean[c], to.Std[c] = float64(c), 0.5+float64(c)
		}
		if err := Convert(st, to, x); err != nil {
			t.Fatal(err)
		}
		for i := range x {
			if want := (float64(all[i]) - to.Mean[i%l.Width]) / to.Std[i%l.Width]; math.Abs(x[i]-want) > 1e-8 {
				t.Fatalf("converted %d is %v, want %v", i, x[i], want)
			}
		}
		if err := Denormalize(to, x); err != nil {
			t.Fatal(err)
		}
		near(t, "back", x, Widen(all), 1e-9)
	}
}

func TestStatsBadInput(t *testing.T) {
	good := func() *Stats {
		s := &Stats{Small, make([]float64, 67), make([]float64, 67)}
		for c := range s.Std {
			s.Std[c] = 1
		}
		return s
	}
	x := make([]float32, 67)
	edit := func(f func(s *Stats)) error { s := good(); f(s); return Normalize(s, x) }
	_, none := NewSums(Small).Stats()
	still := NewSums(Small)
	if err := still.Add(make([]float32, 134)); err != nil {
		t.Fatal(err)
	}
	_, constant := still.Stats()
	for what, c := range map[string]struct {
		err  error
		want string
	}{
		"missing std": {edit(func(s *Stats) { s.Std = nil }), "0 deviations; want 67"}, "zero": {edit(func(s *Stats) { s.Std[5] = 0 }), "channel 5 is 0"},
		"negative": {edit(func(s *Stats) { s.Std[66] = -1 }), "channel 66 is -1"}, "NaN": {edit(func(s *Stats) { s.Mean[1] = math.NaN() }), "mean of channel 1"},
		"rows": {Normalize(good(), x[:66]), "66 numbers"}, "layouts": {Convert(good(), &Stats{Layout: KIT}, x), "one layout"}, "to": {Convert(good(), &Stats{Layout: Small}, x), "0 means"},
		"nothing": {none, "no rows"}, "still": {constant, "turn (channels 0 to 0) never change"}, "add": {NewSums(KIT).Add(x), "67 numbers"}, "add NaN": {NewSums(Small).Add(append(x[:66:66], float32(math.NaN()))), "channel 66"},
	} {
		wantError(t, what, c.err, c.want)
	}
}
