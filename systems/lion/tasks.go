package lion

import "context"

// Digits of the training split, each part for one thing alone, so that nothing is judged
// by what it was trained on or chosen by.
var (
	searchTrain = Span{0, 10000}
	searchVal   = Span{10000, 12000}
	funnelTrain = Span{12000, 28000}
	funnelVal   = Span{28000, 32000}
	finalTrain  = Span{32000, 60000}
	finalTest   = Span{0, 10000} // of the test split
)

// Proxy is what a search scores programs by: 100 steps of a network 64-32-10.
func Proxy(seed uint64) Task {
	return Task{Name: "proxy", Train: searchTrain, Val: searchVal, Width: 32, Steps: 100, Batch: 64, Seed: seed}
}

// FunnelTasks are those of the two stages of the funnel: other digits, a wider network,
// and first some ten times, then some hundred times the work of the proxy in all.
func FunnelTasks(seed uint64) [2][]Task {
	task := func(name string, width, steps int, s uint64) Task {
		return Task{Name: name, Train: funnelTrain, Val: funnelVal, Width: width, Steps: steps, Batch: 64, Seed: s}
	}
	return [2][]Task{
		{task("first", 64, 300, seed+100), task("first", 64, 300, seed+101)},
		{task("second", 128, 1000, seed+200), task("second", 128, 1000, seed+201), task("second", 128, 1000, seed+202)},
	}
}

// Final is what the chosen program is compared on: digits that nothing before has seen, a
// network 64-128-10, ten times the steps of the proxy, judged by the test split.
func Final(seed uint64) Task {
	return Task{Name: "final", Train: finalTrain, Val: finalTest, Test: true, Width: 128, Steps: 1000, Batch: 64, Seed: seed}
}

// NewFunnel reads the tasks of a funnel whose first stage lets keep programs go on.
func NewFunnel(tasks [2][]Task, keep int) ([]Stage, error) {
	out := make([]Stage, len(tasks))
	for i, list := range tasks {
		out[i].Keep = []int{keep, 1}[i]
		for _, k := range list {
			j, err := NewJudge(k)
			if err != nil {
				return nil, err
			}
			out[i].Tasks = append(out[i].Tasks, j.Score)
		}
	}
	return out, nil
}

// Mean is the mean fitness over tasks, for Simplify.
func Mean(tasks []Scorer) func(ctx context.Context, g *Graph) (float64, error) {
	return func(ctx context.Context, g *Graph) (float64, error) {
		list := []Ranked{{Found: Found{Graph: g}}}
		err := rank(ctx, list, tasks)
		return list[0].Fitness, err
	}
}
