package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/report"
)

// row is one line of the table.
type row struct {
	name      string
	peer      string
	target    float64 // how many times faster; 0 for a row without one
	tolerance float64 // relative, between the two values; 0 where they are not comparable
	rounds    int
	repeat    int  // our runs per turn, where they are short
	limit     bool // the other side needs no Python: a limit of this machine that we measure ourselves, or our own plain loop
	remark    string
	skip      func() string // why this machine cannot run it, "" when it can
	ours      func(p *peers) (runner, error)
	theirs    func(p *peers) (runner, error)
}

func threads() int { return cpu.Workers() }

// rows are those of the performance targets that the CPU path has.
func rows() []row {
	var out []row
	add := func(r row) {
		if r.skip == nil {
			r.skip = func() string { return "" }
		}
		r.repeat = max(r.repeat, 1)
		out = append(out, r)
	}
	job := func(name string, threads int) func(*peers) (runner, error) {
		return func(p *peers) (runner, error) { return p.start(name, threads) }
	}
	for _, peer := range []struct {
		name                      string
		statistics, few, thousand float64
	}{{"pytorch-fid", 20, 200, 40}, {"torch-fidelity", 3.2, 30, 6}} {
		add(row{
			name: "frechet from statistics, d 2048", peer: peer.name, target: peer.statistics, tolerance: 1e-6, rounds: 2, repeat: 3,
			ours:   func(p *peers) (runner, error) { return fromStatistics(p.inputs, 10000) },
			theirs: job("frechet:"+peer.name+":10000", threads()),
		})
		for _, n := range []struct {
			n      int
			target float64
		}{{200, peer.few}, {1000, peer.thousand}} {
			add(row{
				name: fmt.Sprintf("frechet from %d features, d 2048", n.n), peer: peer.name, target: n.target, rounds: 2, repeat: 5,
				// Over rank-deficient covariances every route of the peers is up to 5e-6 off, absolutely, of values about 1 to 10.
				tolerance: 1e-4,
				ours:      func(p *peers) (runner, error) { return fromFeatures(p.inputs, n.n) },
				theirs:    job(fmt.Sprintf("frechet:%s:%d", peer.name, n.n), threads()),
			})
		}
	}
	for _, r := range []struct {
		name, peer, job string
		target          float64
		precision       plan.Precision
		tolerance       float64
	}{
		{"inception fp32", "onnxruntime", "network:onnxruntime:f32", 1, plan.F32, 1e-4},
		{"inception fp32", "openvino", "network:openvino:f32", 0, plan.F32, 1e-4},
		{"inception fp32", "pytorch-fid", "network:pytorch-fid:f32", 0, plan.F32, 1e-4},
		{"inception bf16", "openvino bf16", "network:openvino:bf16", 1.2, plan.BF16, 0},
		{"inception bf16x3", "onnxruntime", "network:onnxruntime:f32", 1.5, plan.SplitBF16, 1e-4},
	} {
		q := row{name: r.name, peer: r.peer, target: r.target, tolerance: r.tolerance, rounds: 4}
		q.ours = func(p *peers) (runner, error) { return network(p.inputs, r.precision) }
		q.theirs = job(r.job, threads())
		q.skip = func() string { return unavailable(r.precision) }
		if r.precision != plan.F32 && !amx() {
			q.target, q.remark = 0, "the target holds on processors with AMX, which this one lacks"
			if r.precision == plan.SplitBF16 {
				q.skip = func() string { return "three bf16 products pay only with AMX, which this processor lacks" }
			}
		}
		add(q)
	}
	for _, c := range []struct {
		precision plan.Precision
		target    float64
		tolerance float64
	}{{plan.F32, 3.5, 1e-4}, {plan.BF16, 10, 0}} {
		q := row{name: commandRow(c.precision), peer: "pytorch-fid", target: c.target, tolerance: c.tolerance, rounds: 2}
		q.remark = "our time includes the confidence interval, which the peer does not have"
		q.ours = func(p *peers) (runner, error) { return fidlabCommand(p, c.precision) }
		q.theirs = peerCommand
		q.skip = func() string { return unavailable(c.precision) }
		if c.precision == plan.BF16 && !amx() {
			q.target, q.remark = 0, q.remark+"; the target holds on processors with AMX, which this one lacks"
		}
		add(q)
	}
	add(splatRow())
	for _, r := range attentionRows(job) {
		add(r)
	}
	for _, k := range []struct {
		kind, folder string
		target       float64
	}{{"png", "ref", 1.7}, {"jpg", "jpg", 2}} {
		add(row{
			name: "decode and clean resize, one core, " + k.kind, peer: "clean-fid", target: k.target, tolerance: 1e-5, rounds: 5,
			ours:   func(p *peers) (runner, error) { return decode(filepath.Join(p.inputs, k.folder, "*."+k.kind)) },
			theirs: job("decode:"+k.kind, 1),
		})
	}
	for _, r := range schedulerRows(job) {
		add(r)
	}
	for _, r := range towerRows(job) {
		add(r)
	}
	for _, r := range trainRows(job) {
		add(r)
	}
	for _, r := range slices.Concat(stepRows(), pairRows(job), []row{optimiserRow(job)}, passRows(), productRows()) {
		add(r)
	}
	return out
}

func commandRow(p plan.Precision) string { return "fid of 2x200 PNG, whole command, " + p.String() }

func unavailable(p plan.Precision) string {
	if err := plan.Available(p); err != nil {
		return err.Error()
	}
	return ""
}

const binary = "bin/fidlab"

func fidlabCommand(p *peers, precision plan.Precision) (runner, error) {
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("%w; make build", err)
	}
	argv := []string{binary, "fid", filepath.Join(p.inputs, "ref"), filepath.Join(p.inputs, "gen"), "--features", "random", "--preset", "pytorch-fid", "--json", "--cache", "off"} // every run does the work
	if precision != plan.F32 {
		argv = append(argv, "--precision", precision.String())
	}
	return &command{argv: argv, env: os.Environ(), value: fidOf, log: p.log}, nil
}

func peerCommand(p *peers) (runner, error) {
	return &command{
		argv: []string{p.python, "-m", "pytorch_fid", filepath.Join(p.inputs, "ref"), filepath.Join(p.inputs, "gen"), "--device", "cpu"},
		env:  p.env(threads()), value: fidOfPeer, log: p.log,
	}, nil
}

// cpuinfo returns the value of a key of /proc/cpuinfo, "" elsewhere.
func cpuinfo(key string) string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func amx() bool { return strings.Contains(cpuinfo("flags")+" ", " amx_bf16 ") }

// load is the load average of the last minute, 0 where it is not known.
func load() float64 {
	var v float64
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(b), &v); err != nil {
		return 0
	}
	return v
}

// machine says what was measured on, with what.
func machine(p *peers) []report.Fact {
	facts := []report.Fact{
		{Name: "processor", Value: fmt.Sprintf("%s, %d cores, AMX %v", cpuinfo("model name"), runtime.NumCPU(), amx())},
		{Name: "threads", Value: fmt.Sprint(threads())},
		{Name: "load at the start", Value: fmt.Sprint(load())},
		{Name: "go", Value: runtime.Version()},
	}
	for _, l := range cpu.Report() {
		v := l.Version
		if !l.Used {
			v = "not used: " + l.Why
		} else if l.Why != "" {
			v += ", " + l.Why
		}
		facts = append(facts, report.Fact{Name: "our " + l.Name, Value: v})
	}
	facts = append(facts, report.Fact{Name: "our product 3136x512x128", Value: fmt.Sprintf("%.0f GFLOP/s, the largest of the transformer whose training is timed", productSpeed())})
	if out, err := exec.Command(binary, "version").Output(); err == nil {
		facts = append(facts, report.Fact{Name: "fidlab", Value: strings.TrimSpace(string(out))})
	}
	if p.python == "" {
		return append(facts, report.Fact{Name: "peers", Value: "none: the environment is not here"})
	}
	q, err := p.start("versions", threads())
	if err != nil {
		return append(facts, report.Fact{Name: "peers", Value: err.Error()})
	}
	defer q.close()
	var v map[string]any
	if err := q.(*process).ask(&v); err != nil {
		return append(facts, report.Fact{Name: "peers", Value: err.Error()})
	}
	delete(v, "seconds")
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		parts = append(parts, fmt.Sprint(name, " ", v[name]))
	}
	return append(facts, report.Fact{Name: "peers", Value: strings.Join(parts, ", ")})
}
