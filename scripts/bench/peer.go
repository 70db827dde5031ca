package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// answer is the outcome of one run of either side.
type answer struct {
	Seconds float64 `json:"seconds"`
	Items   int     `json:"items"` // images; 0 where a row is about seconds
	Value   float64 `json:"value"` // what was computed, to be compared
}

// runner does a row's work once.
type runner interface {
	run() (answer, error)
	close()
}

// peers starts the other tools.
type peers struct {
	python string // "" when there are none
	inputs string
	log    io.Writer
	onednn bool // compiled
}

// env is the environment of a peer: a fixed number of threads, and without the
// variables that force another kernel on OpenBLAS.
func (p *peers) env(threads int) []string {
	var out []string
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name != "OPENBLAS_CORETYPE" && name != "OPENBLAS_L2_SIZE" {
			out = append(out, v)
		}
	}
	n := strconv.Itoa(threads)
	return append(out, "PYTHONDONTWRITEBYTECODE=1", "OMP_NUM_THREADS="+n, "MKL_NUM_THREADS="+n, "OPENBLAS_NUM_THREADS="+n, "TORCH_HOME="+filepath.Join(p.inputs, "torch"))
}

// process is a peer.py that waits for its next run.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// start loads a peer and warms it up.
func (p *peers) start(job string, threads int) (runner, error) {
	cmd := exec.Command(p.python, "scripts/bench/peer.py", job, p.inputs)
	cmd.Env = p.env(threads)
	return p.startProgram(cmd)
}

// startProgram starts a peer that waits for its next run, and waits until it is warm.
func (p *peers) startProgram(cmd *exec.Cmd) (runner, error) {
	cmd.Stderr = p.log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	q := &process{cmd, in, bufio.NewScanner(out)}
	if !q.out.Scan() {
		q.close()
		return nil, fmt.Errorf("%s: did not start; its messages are in the log", strings.Join(cmd.Args, " "))
	}
	return q, nil
}

func (q *process) run() (answer, error) {
	var a answer
	return a, q.ask(&a)
}

// ask does one run and decodes what the peer says into v.
func (q *process) ask(v any) error {
	if _, err := io.WriteString(q.in, "run\n"); err != nil {
		return err
	}
	if !q.out.Scan() {
		return errors.New("the peer ended; its messages are in the log")
	}
	return json.Unmarshal(q.out.Bytes(), v)
}

func (q *process) close() {
	q.in.Close()
	_ = q.cmd.Wait() // it may have failed, which its answers have shown already
}

// command is a whole program, timed from its start to its end.
type command struct {
	argv  []string
	env   []string
	value func(stdout string) (float64, error)
	log   io.Writer
}

func (c *command) run() (answer, error) {
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Env, cmd.Stderr = c.env, c.log
	start := time.Now()
	out, err := cmd.Output()
	a := answer{Seconds: time.Since(start).Seconds()}
	if err != nil {
		return a, fmt.Errorf("%s: %w", strings.Join(c.argv, " "), err)
	}
	a.Value, err = c.value(string(out))
	return a, err
}

func (c *command) close() {}
