package symmflow

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/fid/measure"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// The arms of digits.
const (
	flat    = "no dequantisation"
	perHot  = "a channel a class"
	atEnds  = "times towards the ends"
	digitLR = 1e-3
)

// digits compares codings of classes, and draws of times.
func (s sizes) digits() systems.Experiment {
	x := systems.Experiment{
		Name: "digits", Question: fmt.Sprintf("Does the network that draws digits by class tell their class? (digits of 8×8, %d steps of %d)", s.digitSteps, s.digitBatch),
		Size: systems.Size{N: s.digitN, Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "accuracy", Text: "share of test digits whose class is read in one evaluation", Higher: true},
			{Name: "many", Text: fmt.Sprintf("that of %d evaluations", s.many), Higher: true},
			{Name: "consistency", Text: fmt.Sprintf("share of digits drawn in %d steps that the fixed classifier digits-enc takes for the class that was asked", s.many), Higher: true},
			{Name: "classifier", Text: "share of the same test digits that the fixed classifier tells right", Higher: true},
			{Name: "fid", Text: "FID to the test digits in the features of digits-enc", Least: bases.Features + 1},
			{Name: "floor", Text: "FID of as many training digits"},
			{Name: "diversity", Text: "mean distance of the features of two digits of one class", Higher: true},
		},
	}
	for _, v := range []struct {
		name, text string
		change     func(r *recipe)
	}{
		{both, "one network both ways, the class's place among all in one channel", func(*recipe) {}},
		{flat, "SymmFlow with classes of exact numbers, no noise on them", func(r *recipe) { r.coding.Flat = true }},
		{perHot, "SymmFlow with one channel for each class", func(r *recipe) { r.coding.Kind = OneHot }},
		{atEnds, "SymmFlow with more times near 0 and 1", func(r *recipe) { r.ends = true }},
	} {
		cost := systems.Cost{NFE: 1, TrainSteps: float64(s.digitSteps)}
		x.Arms = append(x.Arms, systems.Arm{Name: v.name, Text: v.text, Cost: cost, Set: systems.Params{"lr": digitLR}, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			r := digitsRecipe()
			v.change(&r)
			if s.tiny {
				r.net.MLP.Hidden, r.net.MLP.Blocks = 16, 1
			}
			m, err := r.trained(ctx, settings(s.digitSteps, s.digitBatch, d.Params.Num("lr"), d.Seed))
			if err != nil {
				return nil, err
			}
			out := &systems.Outcome{Cost: cost, Values: map[string]float64{}}
			return out, s.classes(ctx, d, m, out)
		}})
	}
	x.Criteria = []systems.Criterion{
		{Name: "classes", Claim: "in one evaluation at least 0.95 of the test digits are told right", Measure: "accuracy", Arm: both, Form: systems.Value, Bound: 0.95, AtLeast: true},
		{Name: "consistent", Claim: "at least 0.9 of the drawn digits are of the class that was asked", Measure: "consistency", Arm: both, Form: systems.Value, Bound: 0.9, AtLeast: true},
		{Name: "accuracy without noise", Claim: "without noise on classes fewer are told right", Measure: "accuracy", Arm: flat, Against: []string{both}, Bound: 1, Shown: true},
		{Name: "diversity without noise", Claim: "and digits of one class differ less", Measure: "diversity", Arm: flat, Against: []string{both}, Bound: 1, Shown: true},
		{Name: perHot, Claim: "a channel for each class tells more", Measure: "accuracy", Arm: perHot, Against: []string{both}, Bound: 1, AtLeast: true, Shown: true},
		{Name: atEnds, Claim: "so do times near the ends, where reading is learned", Measure: "accuracy", Arm: atEnds, Against: []string{both}, Bound: 1, AtLeast: true, Shown: true},
	}
	x.Notes = []string{fmt.Sprintf("no arm is tuned: all have the rate %g of the digits' other networks", digitLR)}
	return x
}

// trained trains a recipe's network.
func (r recipe) trained(ctx context.Context, s train.Settings) (*Model, error) {
	job, m, err := r.job(Digits, gpu.CPU(), s)
	if err != nil {
		return nil, err
	}
	return m, trainHere(ctx, job, s)
}

// classes measures how a network tells and draws classes.
func (s sizes) classes(ctx context.Context, d systems.Draw, m *Model, out *systems.Outcome) error {
	all, err := heldSmall()
	if err != nil {
		return err
	}
	from := all.part(0, d.N)
	for name, steps := range map[string]int{"accuracy": 1, "many": s.many} {
		said, err := m.Label(ctx, from.all(), Options{Steps: steps, Seed: d.Seed})
		if err != nil {
			return err
		}
		var c *measure.Confusion
		if c, err = from.confusion(said, m.Coding.Classes); err != nil {
			return err
		}
		out.Values[name] = c.Accuracy()
	}
	asked := make([][]uint8, d.N)
	for i := range asked {
		asked[i] = []uint8{uint8(i % m.Coding.Classes)}
	}
	x, err := m.Generate(ctx, asked, Options{Steps: s.many, Seed: d.Seed})
	if err != nil {
		return err
	}
	j, err := bases.OpenSmallJudge(ctx, d.Env, s.reference)
	if err != nil {
		return err
	}
	if out.Values["fid"], err = j.FID(ctx, x); err != nil {
		return err
	}
	if out.Values["floor"], err = j.Floor(ctx, d.Env, d.Seed, d.N); err != nil {
		return err
	}
	f, err := j.Append(ctx, 0, x, nil)
	if err != nil {
		return err
	}
	real, err := j.Append(ctx, 0, from.all(), nil)
	if err != nil {
		return err
	}
	if out.Values["consistency"], err = bases.DigitsTold(f, firstOf(asked)); err != nil {
		return err
	}
	truth := make([][]uint8, d.N)
	for i := range truth {
		truth[i] = from.label(i)
	}
	if out.Values["classifier"], err = bases.DigitsTold(real, firstOf(truth)); err != nil {
		return err
	}
	ahead := m.Coding.Classes // the next digit of the same class
	out.Values["diversity"] = apart(f, f[ahead*bases.Features:], d.N-ahead, bases.Features)
	if d.First {
		out.Pictures = pictures(x.Rows(0, 2*ahead).F32(), from.shape, 4)
	}
	return nil
}

// firstOf are the classes of labels of one.
func firstOf(labels [][]uint8) []int {
	out := make([]int, len(labels))
	for i, l := range labels {
		out[i] = int(l[0])
	}
	return out
}
