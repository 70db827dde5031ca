package main

import (
	"fmt"
	"io"
	"time"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/motion"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/nn"
)

// motionJob makes and measures the encoder of motions.
type motionJob struct {
	motionSet
	recipe recipe
}

func newMotionJob() *motionJob {
	return &motionJob{motionSet{motion.New(data.DefaultSeed)}, motionRecipe}
}

func (m *motionJob) how() *recipe { return &m.recipe }

// trained is the encoder that a recipe gives.
func (m *motionJob) trained(r recipe, log io.Writer) (*extract.MotionEncoder, *nn.Params, error) {
	params, net, err := trainMotion(r, clipsOf(m.set, data.Enc), log)
	if err != nil {
		return nil, nil, err
	}
	return extract.NewMotionEncoder(motionSpec(), params, net, ""), params, nil
}

func (m *motionJob) make(folder string, log io.Writer) error {
	start := time.Now()
	e, params, err := m.trained(m.recipe, log)
	if err != nil {
		return err
	}
	scores, v, err := m.scores(e, m.set.Len(data.Test))
	if err != nil {
		return err
	}
	match, err := m.match(e, v, v.n()/32*32)
	if err != nil {
		return err
	}
	fmt.Fprintf(log, "R-precision %.4f, distance %.4f\n", match.R, match.Distance)
	return save(folder, extract.MotionName, "encoder of the generated set motion and its captions, trained on its split enc", motionSpec(), m.recipe, scores, params, start, log)
}

func (m *motionJob) printTables(n int, w io.Writer) error {
	e, err := extract.OpenMotion(extract.Options{})
	if err != nil {
		return err
	}
	scores, test, err := m.scores(e, m.set.Len(data.Test))
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "### %s\n\n", extract.MotionName)
	printScores(w, e.Spec().Heads, scores)
	match, err := m.match(e, test, test.n()/32*32)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "R-precision of captions among 32: %.2f %%, %.2f %%, %.2f %% (1, 2, 3); mean distance of a motion and its caption %.4f\n\n",
		100*match.R[0], 100*match.R[1], 100*match.R[2], match.Distance)
	ref, err := clipFeatures(e, m.set.Len(data.Ref), m.clip(data.Ref))
	if err != nil {
		return err
	}
	f, err := floors(test, ref, sizes)
	if err != nil {
		return err
	}
	printFloors(w, f)
	n = min(n, m.set.Len(data.Test))
	fmt.Fprintf(w, "%d clips of test, %d of ref:\n\n", n, m.set.Len(data.Ref))
	curves, err := m.curvesOf(e, ref, n, m.damages())
	if err != nil {
		return err
	}
	for _, c := range curves {
		printCurve(w, c)
	}
	return nil
}

func (m *motionJob) printRanks(w, log io.Writer) error {
	return ranks(extract.MotionName, m.recipe, w, log, func(r recipe) (names []string, values []float64, err error) {
		e, _, err := m.trained(r, io.Discard)
		if err != nil {
			return nil, nil, err
		}
		ref, err := clipFeatures(e, m.set.Len(data.Ref), m.clip(data.Ref))
		if err != nil {
			return nil, nil, err
		}
		var c corruptions
		for _, d := range m.damages() {
			level := d.levels[len(d.levels)/2]
			v, err := clipFeatures(e, m.set.Len(data.Test), func(i int) []float32 { return d.worse(i, level) })
			if err := c.add(ref, v, err, d.name, level); err != nil {
				return nil, nil, err
			}
		}
		return c.names, c.values, nil
	})
}
