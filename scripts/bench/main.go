package main

import (
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/report"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type settings struct {
	rows   string
	rounds int
	out    string
	pause  time.Duration
}

func run() error {
	var s settings
	var python string
	flag.StringVar(&s.rows, "rows", "", "only rows whose name contains this")
	flag.IntVar(&s.rounds, "rounds", 0, "turns of each side; 0 for what each row needs")
	flag.StringVar(&s.out, "o", "bench-out", "folder for inputs, log and results")
	flag.StringVar(&python, "python", "", "interpreter of the peers' environment; empty: our side alone")
	flag.DurationVar(&s.pause, "pause", time.Second, "rest between turns, until the other side's threads sleep")
	flag.Parse()
	inputs := filepath.Join(s.out, "inputs")
	if err := os.MkdirAll(inputs, 0o755); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.out, "bench.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	p := &peers{python: python, inputs: inputs, log: log}
	limits := false // only what we measure ourselves
	if python != "" {
		fmt.Fprintln(os.Stderr, "bench: making the inputs (once, a minute or two)")
		cmd := exec.Command(python, "scripts/bench/inputs.py", inputs)
		cmd.Env, cmd.Stdout, cmd.Stderr = p.env(threads()), log, log
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("inputs: %w; see %s", err, log.Name())
		}
	} else if _, err := os.Stat(filepath.Join(inputs, "inception.onnx")); err != nil {
		fmt.Println("bench: the inputs are made by the peers' environment, which is not here; only the rows without a peer are measured. Run scripts/bench/setup.sh with a network.")
		limits = true
	}
	facts := machine(p)
	for _, f := range facts {
		fmt.Printf("%s: %s\n", f.Name, f.Value)
	}
	var results []result
	for _, r := range rows() {
		if !strings.Contains(r.name, s.rows) || limits && !r.limit {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s, %s\n", r.name, r.peer)
		res := measure(r, p, s)
		results = append(results, res)
		if res.Problem != "" {
			fmt.Fprintf(os.Stderr, "bench: %s: %s\n", r.name, res.Problem)
		}
	}
	if err := show(os.Stdout, results); err != nil {
		return err
	}
	if err := save(filepath.Join(s.out, "bench.json"), facts, results); err != nil {
		return err
	}
	for _, r := range results {
		if r.Wrong {
			return fmt.Errorf("%s: the two sides computed different values: %v and %v", r.Row, r.PeerValue, r.OurValue)
		}
	}
	return nil
}

// result is a row with what was measured; rates are images per second or 1/seconds.
type result struct {
	Row       string  `json:"row"`
	Peer      string  `json:"peer"`
	PeerBest  float64 `json:"peer_best,omitempty"`
	OurBest   float64 `json:"our_best,omitempty"`
	Unit      string  `json:"unit"`
	Ratio     float64 `json:"ratio,omitempty"`
	Target    float64 `json:"target,omitempty"`
	Met       bool    `json:"met"`
	PeerValue float64 `json:"peer_value"`
	OurValue  float64 `json:"our_value"`
	Wrong     bool    `json:"wrong,omitempty"`
	Problem   string  `json:"problem,omitempty"` // why there is no ratio
	Remark    string  `json:"remark,omitempty"`
	Load      float64 `json:"load"` // the machine's load average when the row began
}

// measure lets both sides take turns.
func measure(r row, p *peers, s settings) result {
	out := result{Row: r.name, Peer: r.peer, Unit: "s", Target: r.target, Remark: r.remark, Load: load()}
	if why := r.skip(); why != "" {
		out.Problem = why
		return out
	}
	ours, err := r.ours(p)
	if err != nil {
		out.Problem = "ours: " + err.Error()
		return out
	}
	defer ours.close()
	var theirs runner
	if p.python == "" && !r.limit {
		out.Problem = "no peers here"
	} else {
		if theirs, err = r.theirs(p); err != nil {
			out.Problem = err.Error()
			return out
		}
		defer theirs.close()
	}
	rounds := r.rounds
	if s.rounds > 0 {
		rounds = s.rounds
	}
	var a, b best
	again := 1
	if r.limit {
		again = r.repeat
	}
	for range rounds {
		if theirs != nil {
			time.Sleep(s.pause)
			if err := a.take(theirs, again); err != nil {
				out.Problem = "peer: " + err.Error()
				return out
			}
		}
		time.Sleep(s.pause)
		if err := b.take(ours, r.repeat); err != nil {
			out.Problem = "ours: " + err.Error()
			return out
		}
	}
	out.PeerBest, out.OurBest, out.PeerValue, out.OurValue = a.seconds, b.seconds, a.last.Value, b.last.Value
	if b.last.Items > 0 {
		out.Unit = "images/s"
		out.PeerBest, out.OurBest = a.rate(), b.rate()
	}
	if theirs == nil {
		return out
	}
	out.Ratio = a.perItem() / b.perItem()
	out.Met = out.Ratio >= r.target
	if r.tolerance > 0 && !(apart(out.PeerValue, out.OurValue) <= r.tolerance) {
		out.Wrong, out.Met = true, false
	}
	return out
}

// best keeps the fastest of several runs.
type best struct {
	seconds float64
	last    answer
}

func (b *best) take(r runner, times int) error {
	for range max(times, 1) {
		a, err := r.run()
		if err != nil {
			return err
		}
		if b.seconds == 0 || a.Seconds < b.seconds {
			b.seconds = a.Seconds
		}
		b.last = a
	}
	return nil
}

func (b *best) perItem() float64 { return b.seconds / math.Max(float64(b.last.Items), 1) }

func (b *best) rate() float64 {
	if b.seconds == 0 {
		return 0
	}
	return float64(b.last.Items) / b.seconds
}

// show writes the table and, below it, why rows were skipped and what else to know.
func show(w io.Writer, results []result) error {
	t := report.Table{Columns: report.Columns("row", "peer", "peer's best>", "our best>", "unit", "ratio>", "target>", "met", "values")}
	num := func(v float64) string {
		if v == 0 {
			return "-"
		}
		return report.Number(v, math.NaN(), math.NaN())
	}
	var notes []string
	for _, r := range results {
		met, values, target := "no", "-", "-"
		switch {
		case r.Problem != "":
			met = "skipped"
			notes = append(notes, fmt.Sprintf("%s, %s: skipped: %s", r.Row, r.Peer, r.Problem))
		case r.Target == 0:
			met = "no target"
		case r.Met:
			met = "yes"
		}
		switch {
		case r.Wrong:
			values = "DIFFER"
			notes = append(notes, fmt.Sprintf("%s, %s: the values differ: %.9g, ours %.9g", r.Row, r.Peer, r.PeerValue, r.OurValue))
		case r.Ratio > 0:
			values = fmt.Sprintf("%.1e apart", apart(r.PeerValue, r.OurValue))
		}
		if r.Target > 0 {
			target = fmt.Sprintf("%.4g", r.Target)
		}
		if r.Remark != "" {
			notes = append(notes, fmt.Sprintf("%s, %s: %s", r.Row, r.Peer, r.Remark))
		}
		t.Rows = append(t.Rows, []string{r.Row, r.Peer, num(r.PeerBest), num(r.OurBest), r.Unit, num(r.Ratio), target, met, values})
	}
	if note := bf16Shift(results); note != "" {
		notes = append(notes, note)
	}
	if err := t.WriteText(w); err != nil {
		return err
	}
	for _, n := range notes {
		if _, err := fmt.Fprintln(w, n); err != nil {
			return err
		}
	}
	return nil
}

// bf16Shift says how far bf16 moved the FID of the whole command, "" when either run is missing.
func bf16Shift(results []result) string {
	var v [2]float64
	for _, r := range results {
		for i, p := range []plan.Precision{plan.F32, plan.BF16} {
			if r.Row == commandRow(p) {
				v[i] = r.OurValue
			}
		}
	}
	if v[0] == 0 || v[1] == 0 {
		return ""
	}
	return fmt.Sprintf("bf16 moves the FID of the two folders from %.6g to %.6g, by %.2e of it", v[0], v[1], apart(v[0], v[1]))
}

// apart is the difference of b from a, relative to a.
func apart(a, b float64) float64 { return math.Abs(b-a) / math.Max(math.Abs(a), 1e-300) }

func save(path string, facts []report.Fact, results []result) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = writeResults(f, facts, results)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func writeResults(w io.Writer, facts []report.Fact, results []result) error {
	m := map[string]string{}
	for _, f := range facts {
		m[f.Name] = f.Value
	}
	return report.WriteJSON(w, map[string]any{"machine": m, "rows": results})
}
