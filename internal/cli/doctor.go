package cli

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/onnx"
)

// fact is one line of the doctor's report.
type fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Advice says what to do about something missing and what that would bring; "" when all is well.
	Advice string `json:"advice,omitempty"`
}

// section groups facts under a heading.
type section struct {
	Name  string `json:"name"`
	Facts []fact `json:"facts"`
}

func newDoctor(a *app) *cobra.Command {
	var quick bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine has, what is used, and what to install for the rest",
		Long: `Say what this machine has, what of it fidlab uses, and what to install for
what is missing. Nothing that is missing stops fidlab: it costs speed or an
input format, and the last lines say which.`,
		Example: "  fidlab doctor\n  fidlab doctor --json | jq '.[].facts[] | select(.advice)'",
		Args:    nargs("no arguments", 0, 0),
		RunE:    func(*cobra.Command, []string) error { return runDoctor(a, quick) },
	}
	cmd.Flags().BoolVar(&quick, "quick", false, "leave out the measurements, which take some seconds")
	return cmd
}

func runDoctor(a *app, quick bool) error {
	report := []section{a.hostFacts(), a.libraryFacts(), gpuFacts(), a.dataFacts()}
	if !quick {
		a.say("measuring the speed of products, convolution and memory ...")
		report = append(report, speedFacts())
	}
	if a.json {
		return a.printJSON(report)
	}
	var advice []string
	tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	for i, s := range report {
		if i > 0 {
			fmt.Fprintln(tw)
		}
		fmt.Fprintln(tw, s.Name)
		for _, f := range s.Facts {
			fmt.Fprintf(tw, "  %s\t%s\n", f.Name, f.Value)
			if f.Advice != "" {
				advice = append(advice, f.Advice)
			}
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for i, line := range advice {
		if i == 0 {
			a.printf("\nto do\n")
		}
		a.printf("  %s\n", line)
	}
	return nil
}

func (a *app) hostFacts() section {
	v := thisVersion()
	s := section{Name: "this machine", Facts: []fact{
		{Name: "fidlab", Value: v.Version + ", " + v.Flavour},
		{Name: "platform", Value: v.Platform + ", " + v.Go},
		{Name: "processor", Value: processor()},
		{Name: "instructions", Value: instructions()},
		{Name: "cores", Value: fmt.Sprintf("%d, of which fidlab uses %d", runtime.NumCPU(), cpu.Workers())},
		{Name: "memory", Value: memory()},
	}}
	if flavour != "native" {
		s.Facts[0].Advice = "this binary is pure Go: correct, but slow; build the native one with: make build"
	}
	return s
}

// dataFacts says what is here of the files that some commands need.
func (a *app) dataFacts() section {
	s := section{Name: "data"}
	if dir, err := mnist.Dir(); err == nil {
		s.Facts = append(s.Facts, fact{Name: "mnist", Value: dir})
	} else {
		s.Facts = append(s.Facts, fact{Name: "mnist", Value: "not found", Advice: err.Error()})
	}
	if path, err := extract.FindInception(extract.Options{Getenv: a.env.Getenv}); err == nil {
		s.Facts = append(s.Facts, fact{Name: "inception", Value: path + " (fidlab weights verify checks it)"})
	} else {
		s.Facts = append(s.Facts, fact{Name: "inception", Value: "no weights found", Advice: err.Error()})
	}
	there, missing := 0, ""
	for _, e := range assets.List() {
		if e.BuiltIn {
			continue
		}
		if _, err := assets.Default().Locate(e.Name); err == nil {
			there++
		} else if missing == "" {
			missing = err.Error()
		}
	}
	s.Facts = append(s.Facts, fact{Name: "models", Value: fmt.Sprintf("%d that ship are here (fidlab models check loads them)", there), Advice: missing})
	if dir, err := extract.CacheDir(a.env.Getenv); err == nil {
		s.Facts = append(s.Facts, fact{Name: "cache", Value: dir})
	} else {
		s.Facts = append(s.Facts, fact{Name: "cache", Value: "none", Advice: err.Error()})
	}
	return s
}

// libraryFacts says which native libraries are used, and what the others cost.
func (a *app) libraryFacts() section {
	s := section{Name: "libraries"}
	for _, l := range cpu.Report() {
		f := fact{Name: l.Name}
		switch {
		case l.Used:
			f.Value = fmt.Sprintf("%s, used for %s (%s)", l.Version, l.Purpose, l.Path)
			if l.Why != "" {
				f.Value += "; " + l.Why
			}
		default:
			f.Value = fmt.Sprintf("not used (%s): %s", l.Purpose, l.Why)
			if l.Install != "" {
				f.Advice = fmt.Sprintf("%s, for %s: %s", l.Name, l.Purpose, l.Install)
			}
		}
		s.Facts = append(s.Facts, f)
	}
	const purpose = "networks in .onnx files"
	if path, version, err := onnx.Library(a.env.Getenv); err == nil {
		s.Facts = append(s.Facts, fact{Name: "onnxruntime", Value: fmt.Sprintf("%s, used for %s (%s)", version, purpose, path)})
	} else {
		f := fact{Name: "onnxruntime", Value: fmt.Sprintf("not used (%s): %v", purpose, err)}
		if flavour == "native" { // else the binary's own advice says it
			f.Advice = "onnxruntime, for " + purpose + ": " + onnx.Install
		}
		s.Facts = append(s.Facts, f)
	}
	return s
}

// speedFacts measures this machine; it takes about three seconds.
func speedFacts() section {
	s := section{Name: "speed, measured now"}
	for _, m := range cpu.Measure() {
		if last := len(s.Facts) - 1; last >= 0 && s.Facts[last].Name == m.Name {
			s.Facts[last].Value += fmt.Sprintf("; on %d threads %.1f", m.Threads, m.Value)
			continue
		}
		s.Facts = append(s.Facts, fact{Name: m.Name, Value: fmt.Sprintf("%.1f %s on %d thread", m.Value, m.Unit, m.Threads)})
	}
	return s
}

// instructions names the vector and matrix instructions that the processor has and those it lacks.
func instructions() string {
	var has, lacks []string
	for _, f := range cpu.Features() {
		if f.Has {
			has = append(has, f.Name)
		} else {
			lacks = append(lacks, f.Name)
		}
	}
	text := strings.Join(has, ", ")
	if text == "" {
		text = "none of those that matter here"
	}
	if len(lacks) > 0 {
		text += "; not " + strings.Join(lacks, ", ")
	}
	return text
}

func gpuFacts() section {
	s := section{Name: "gpu"}
	list, err := cuda.Devices()
	if err != nil {
		s.Facts = append(s.Facts, fact{Name: "none", Value: err.Error()})
	}
	for _, d := range list {
		s.Facts = append(s.Facts, fact{
			Name: fmt.Sprintf("cuda:%d", d.Ordinal),
			Value: fmt.Sprintf("%s, compute %d.%d, %.1f GiB; fid, stats and features compute on it, sample, train and prove with --device cuda (docs/gpu.md)",
				d.Name, d.Major, d.Minor, float64(d.Memory)/(1<<30)),
		})
	}
	return s
}

// processor is the model's name where the system tells it (Linux), else the architecture.
func processor() string { return procField("/proc/cpuinfo", "model name", runtime.GOARCH) }

// memory is total and available main memory where the system tells it (Linux).
func memory() string {
	gib := func(key string) (string, bool) {
		kb, err := strconv.ParseFloat(strings.TrimSuffix(procField("/proc/meminfo", key, ""), " kB"), 64)
		return fmt.Sprintf("%.1f GiB", kb/(1<<20)), err == nil
	}
	total, ok1 := gib("MemTotal")
	free, ok2 := gib("MemAvailable")
	if !ok1 || !ok2 {
		return "unknown on " + runtime.GOOS
	}
	return total + ", of which " + free + " available"
}

// procField is the value of the first "key : value" line of a file of /proc.
func procField(path, key, otherwise string) string {
	f, err := os.Open(path)
	if err != nil {
		return otherwise
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if k, v, ok := strings.Cut(sc.Text(), ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return otherwise
}
