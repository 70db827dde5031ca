package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
)

type options struct {
	run, device, json, md, torch, specs, once, tests string
	reps                                             int
	list, info, roofline                             bool
}

func main() {
	var o options
	flag.StringVar(&o.run, "run", "", "time only the cases that match this `regexp`")
	flag.StringVar(&o.device, "device", "cuda:0", "the `device`")
	flag.StringVar(&o.json, "json", "", "write the result to this `file`")
	flag.StringVar(&o.md, "md", "", "write the table to this `file`")
	flag.StringVar(&o.torch, "torch", "", "the peer's `file`, of scripts/gpu/torch_peer.py")
	flag.StringVar(&o.specs, "specs", "", "write what the peer is to time to this `file`, and nothing else")
	flag.StringVar(&o.once, "once", "", "run this one `case` a few times, for a profiler")
	flag.StringVar(&o.tests, "tests", "", "sum up the logs of test programs in this `folder`")
	flag.IntVar(&o.reps, "reps", 30, "how many times of which the median is taken; at least 20")
	flag.BoolVar(&o.list, "list", false, "list the cases")
	flag.BoolVar(&o.roofline, "roofline", false, "print docs/gpu/ROOFLINE.md: what no device can be faster than, and what is predicted")
	flag.BoolVar(&o.info, "info", false, "say which device there is")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "gpubench: %q is not a flag\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := o.do(); err != nil {
		fmt.Fprintln(os.Stderr, "gpubench:", err)
		os.Exit(1)
	}
}

func (o *options) do() error {
	chosen, err := o.choose()
	if err != nil {
		return err
	}
	switch {
	case o.tests != "":
		return sumUp(o.tests, o.json, o.md)
	case o.roofline:
		return printRooflines(chosen)
	case o.list:
		for _, c := range chosen {
			fmt.Printf("%-36s %-28s %s\n", c.Name, c.Kernel, c.Shape)
		}
		return nil
	case o.specs != "":
		b, err := json.MarshalIndent(specs(chosen), "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(o.specs, append(b, '\n'), 0o666)
	}
	dev, err := gpu.Open(o.device)
	if err != nil {
		return err
	}
	if !dev.CUDA() {
		return fmt.Errorf("%s is not a GPU", o.device)
	}
	d := dev.Stream().Dev().Info()
	r := &report{Device: d.Name, Compute: fmt.Sprintf("%d.%d", d.Major, d.Minor), Memory: d.Memory, Host: cuda.HostDevice(), Reps: o.repeats()}
	r.Figures, r.Peaks = peaksOf(d.Name)
	switch {
	case o.info:
		fmt.Printf("%s, compute capability %s, %.1f GiB\n", r.Device, r.Compute, float64(r.Memory)/(1<<30))
		return nil
	case o.once != "":
		return once(dev, o.once)
	}
	return o.measureAll(dev, chosen, r)
}

// repeats is how many times of which the median is taken; a rehearsal needs no median.
func (o *options) repeats() int {
	if tiny {
		return 2
	}
	return max(o.reps, minReps)
}

func (o *options) choose() ([]Case, error) {
	re, err := regexp.Compile(o.run)
	if err != nil {
		return nil, err
	}
	var list []Case
	for _, c := range cases {
		if re.MatchString(c.Name) {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no case matches %q; -list shows them", o.run)
	}
	return list, nil
}

func (o *options) measureAll(dev *gpu.Device, chosen []Case, r *report) error {
	var p *peer
	if o.torch != "" {
		var err error
		if p, err = readPeer(o.torch); err != nil {
			return err
		}
		r.Torch = p.Torch
	}
	t, err := newTimer(dev, r.Reps)
	if err != nil {
		return err
	}
	var probed map[string]result
	r.Limits, probed = t.limits(r.Peaks)
	for _, c := range chosen {
		x, done := probed[c.Name]
		if !done {
			x = t.measure(c, r.Peaks)
		}
		if x.Error == "" {
			if x.Launches, err = launches(c.Name, o.device); err != nil {
				x.Error = err.Error()
			} else if tiny && !slices.ContainsFunc(x.Launches, func(l launch) bool { return l.Kernel == c.Kernel }) {
				x.Error = fmt.Sprintf("it launches %v, not %s", x.Launches, c.Kernel)
			} else if name := hold(c, x.Launches, r.Peaks); name != "" && tiny {
				x.Error = fmt.Sprintf("it launches %v, not its part %s", x.Launches, name)
			}
		}
		if us := x.time(); us > 0 {
			x.Limit = 1e6 * r.Limits.roofline(c.whole()) / us
		}
		if p != nil {
			p.compare(&x)
		}
		fmt.Fprintf(os.Stderr, "%-36s cold %9.1f us  hot %9.1f us  %5.1f %% of roofline  %5.1f %% of limit  %s\n", x.Name, x.Cold, x.Hot, 100*x.Reached, 100*x.Limit, x.Error)
		r.Results = append(r.Results, x)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if o.json != "" {
		err = errors.Join(err, os.WriteFile(o.json, append(b, '\n'), 0o666))
	}
	if o.md != "" {
		err = errors.Join(err, os.WriteFile(o.md, []byte(r.markdown()), 0o666))
	} else {
		fmt.Print(r.markdown())
	}
	if n := len(r.failed()); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d cases were not measured", n, len(chosen)))
	}
	return err
}

// once runs a case four times; a profiler looks at the last.
func once(dev *gpu.Device, name string) error {
	for _, c := range cases {
		if c.Name != name {
			continue
		}
		run, err := c.Setup(dev)
		if err != nil {
			return err
		}
		for range size(4, 1) {
			fmt.Fprint(os.Stderr, runMark)
			run()
			if err := dev.Sync(); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no case is called %q; -list shows them", name)
}
