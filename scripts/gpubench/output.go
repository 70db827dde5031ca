package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// report is all that a run of the benchmark gives.
type report struct {
	Device  string   `json:"device"`
	Compute string   `json:"compute_capability"`
	Memory  uint64   `json:"memory_bytes"`
	Host    bool     `json:"host_device,omitempty"` // a rehearsal: the times say nothing
	Figures string   `json:"figures"`               // of which device the peaks are
	Peaks   peaks    `json:"peaks,omitempty"`
	Limits  peaks    `json:"limits,omitempty"` // what the probes reached in this run
	Reps    int      `json:"reps"`
	Torch   string   `json:"torch,omitempty"`
	Results []result `json:"results"`
}

// peer is what scripts/gpu/torch_peer.py writes.
type peer struct {
	Torch  string             `json:"torch"`
	Device string             `json:"device"`
	Rows   map[string]peerRow `json:"rows"`
}

type peerRow struct {
	Cold  float64 `json:"cold_us"`
	Hot   float64 `json:"hot_us"`
	Best  string  `json:"best"`
	Error string  `json:"error"`
}

func readPeer(path string) (*peer, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var p peer
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &p, nil
}

// compare adds the peer's time to a row, the one taken as ours was.
func (p *peer) compare(r *result) {
	row, ok := p.Rows[r.Torch]
	if !ok || r.Torch == "" {
		return
	}
	if row.Error != "" {
		r.Peer = row.Error
		return
	}
	r.Peer, r.TorchUS = row.Best, row.Hot
	if r.Peak == "memory" {
		r.TorchUS = row.Cold
	}
	if us := r.time(); us > 0 {
		r.Ratio = r.TorchUS / us
	}
}

// specs lists what the peer is to time, each once.
func specs(list []Case) []string {
	out := []string{}
	seen := map[string]bool{}
	for _, c := range list {
		if c.Torch != "" && !seen[c.Torch] {
			seen[c.Torch] = true
			out = append(out, c.Torch)
		}
	}
	return out
}

// markdown is the report as one table under a line about the device.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Kernels on %s\n\n", r.Device)
	if r.Host {
		b.WriteString("This is a rehearsal on the host device: the kernels ran as C++ on the CPU at small sizes, and the times say nothing.\n\n")
	}
	if r.Figures != "" {
		fmt.Fprintf(&b, "Roofline by the figures of %s: %.2f TB/s, %.0f TFLOP/s bf16 and f16, %.0f f32, %.1f f64.\n", r.Figures,
			r.Peaks["memory"]/tera, r.Peaks["bf16"]/tera, r.Peaks["f32"]/tera, r.Peaks["f64"]/tera)
	} else {
		b.WriteString("No figures are known for this device: no column of the roofline.\n")
	}
	fmt.Fprintf(&b, "Measured limits of the same run: %.3g TB/s (triad), %.3g TFLOP/s f32 (multiply-adds), %.3g f16 and %.3g bf16 (mma.sync; wgmma may reach more).\n",
		r.Limits["memory"]/tera, r.Limits["f32"]/tera, r.Limits["f16"]/tera, r.Limits["bf16"]/tera)
	fmt.Fprintf(&b, "Median of %d runs by the device's events. Cold: 256 MiB written before each run. Hot: back to back. "+
		"A kernel bound by memory is judged by its cold time, the others by the hot one.\n", r.Reps)
	if r.Torch != "" {
		fmt.Fprintf(&b, "Peer: torch %s, timed in the same two ways; ratio: the peer's time over ours, above 1 is faster than the peer.\n", r.Torch)
	}
	b.WriteString("\n| case | shape | cold us | hot us | GB/s | TFLOP/s | bound | of roofline | of limit | goal | torch us | ratio | peer |\n")
	b.WriteString("|---|---|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|---|\n")
	for _, x := range r.Results {
		b.WriteString(x.row())
	}
	b.WriteString(r.againstPlain())
	b.WriteString(r.byKernel())
	if failed := r.failed(); len(failed) > 0 {
		b.WriteString("\nNot measured:\n\n")
		for _, x := range failed {
			fmt.Fprintf(&b, "- %s: %s\n", x.Name, x.Error)
		}
	}
	return b.String()
}

// some is v in that format, nothing for 0.
func some(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

// againstPlain says how many times as fast as plain loops the cases are that have such a case beside them.
func (r *report) againstPlain() string {
	var b strings.Builder
	for _, x := range r.Results {
		for _, p := range r.Results {
			if x.Plain != "" && x.Plain == p.Name && x.time() > 0 && p.time() > 0 {
				fmt.Fprintf(&b, "- %s is %.3g times as fast as %s\n", x.Name, p.time()/x.time(), p.Name)
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\nAgainst plain loops:\n\n" + b.String()
}

func (x result) row() string {
	if x.Error != "" {
		return ""
	}
	us := x.time()
	rate := func(n, unit float64) string {
		if n == 0 || us == 0 {
			return ""
		}
		return fmt.Sprintf("%.3g", n/us*1e6/unit)
	}
	goal := some("%.0f %%", 100*x.Goal)
	if x.Goal > 0 && x.Reached > 0 && x.Reached < x.Goal {
		goal += " missed"
	}
	return fmt.Sprintf("| %s | %s | %.1f | %.1f | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", x.Name, x.Shape, x.Cold, x.Hot, rate(x.Bytes, 1e9), rate(x.Flops, 1e12), x.Peak,
		some("%.1f %%", 100*x.Reached), some("%.1f %%", 100*x.Limit), goal, some("%.1f", x.TorchUS), some("%.2f", x.Ratio), strings.ReplaceAll(x.Peer, "|", "/"))
}

func (r *report) failed() []result {
	var list []result
	for _, x := range r.Results {
		if x.Error != "" {
			list = append(list, x)
		}
	}
	return list
}
