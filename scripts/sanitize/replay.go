package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// outcome is what one replay of one recording showed. finding is "" for nothing
// wrong, or the detector that found something:
//
//	result     the memory afterwards is not the recording's
//	asan       AddressSanitizer or UndefinedBehaviorSanitizer
//	tsan       ThreadSanitizer
//	scheduler  the host build: a deadlock, a divergent barrier, a wrong address
//	crash      a signal that none of these explains
//	hang       no end within minutes of the processor's time
type outcome struct {
	recording *recording
	finding   string
	text      string
}

// replay plays recordings with a program, in a new process after each one that ends it.
func (r *runner) replay(program, order string, loose bool, list []*recording) ([]outcome, error) {
	var all []outcome
	for len(list) > 0 {
		args := []string{}
		if loose {
			args = append(args, "-loose")
		}
		seconds := 120.0 // of the processor: a kernel that spins ends by a signal
		for _, rec := range list {
			args = append(args, rec.path)
			seconds += 1e-3 * float64(rec.microseconds)
		}
		words := append([]string{"-c", `ulimit -t "$0" && exec "$@"`, fmt.Sprintf("%.0f", seconds)}, program)
		if r.setarch != "" {
			words = append(words[:3], r.setarch, "-R", program)
		}
		cmd := exec.Command("sh", append(words, args...)...)
		cmd.Env = append(os.Environ(), "FIDLAB_HOST_ORDER="+order,
			"ASAN_OPTIONS=detect_leaks=0", "UBSAN_OPTIONS=print_stacktrace=1", "TSAN_OPTIONS=halt_on_error=1")
		var out, complaint bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &complaint
		r.slots <- struct{}{}
		err := cmd.Run()
		<-r.slots
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return nil, err
		}
		if strings.Contains(complaint.String(), "FATAL: ThreadSanitizer: unexpected memory mapping") && r.setarch == "" {
			if r.setarch, err = exec.LookPath("setarch"); err != nil {
				return nil, errors.New("ThreadSanitizer cannot work with this kernel's address randomisation, and there is no setarch; sysctl vm.mmap_rnd_bits=28 helps too")
			}
			continue
		}
		seen, done := parseReplay(out.String(), list)
		all = append(all, seen...)
		list = list[len(seen):]
		if done {
			continue
		}
		if exit == nil || len(list) == 0 {
			return nil, fmt.Errorf("%s ended early: %v\n%s", program, err, complaint.String())
		}
		if exit.ExitCode() == 3 {
			return nil, errors.New(strings.TrimSpace(complaint.String()))
		}
		late := strings.Contains(exit.String(), "CPU time limit") || strings.Contains(exit.String(), "killed")
		all = append(all, outcome{list[0], classify(complaint.String(), late), complaint.String()})
		list = list[1:]
	}
	return all, nil
}

// parseReplay reads the program's lines; done tells whether it came to the end of the list.
func parseReplay(out string, list []*recording) (seen []outcome, done bool) {
	for _, line := range strings.Split(out, "\n") {
		switch {
		case line == "ok":
			seen = append(seen, outcome{recording: list[len(seen)]})
		case strings.HasPrefix(line, "differs: "):
			seen = append(seen, outcome{list[len(seen)], "result", line})
		}
	}
	return seen, len(seen) == len(list)
}

// classify names the detector that ended a replay.
func classify(complaint string, late bool) string {
	switch {
	case strings.Contains(complaint, "ThreadSanitizer: data race"):
		return "tsan"
	case strings.Contains(complaint, "ERROR: AddressSanitizer") && !strings.Contains(complaint, "AddressSanitizer: ABRT"),
		strings.Contains(complaint, "runtime error: "):
		return "asan"
	case strings.Contains(complaint, "host device: "):
		return "scheduler"
	case late:
		return "hang"
	}
	return "crash"
}
