package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Main runs one command line (without the program's name) and returns its exit code.
func Main(args []string, env *Env) int {
	// With SIGPIPE caught, writing to a closed pipe is an error that exitCode maps to 0.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second Ctrl-C ends the process at once
	}()

	a := newApp(env)
	a.args = args
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Canceled // whatever the cancelled work reported
	}
	if err == nil {
		err = a.stdout.err // a result that did not reach its reader is a failure
	}
	code := exitCode(err)
	var usage *usageError
	switch {
	case code == exitOK:
	case code == exitInterrupted && a.kept != "":
		fmt.Fprintf(env.Stderr, "fidlab: interrupted; %s\n", a.kept)
	case code == exitInterrupted:
		fmt.Fprintln(env.Stderr, "fidlab: interrupted; nothing was left under a final name")
	case errors.As(err, &usage):
		fmt.Fprintf(env.Stderr, "fidlab: %v\n%s --help tells more\n", err, cmd.CommandPath())
	default:
		fmt.Fprintf(env.Stderr, "fidlab: %v\n", err)
	}
	return code
}

// app is one run of the program: its environment and the flags that every command has.
type app struct {
	env     *Env
	args    []string // the command line
	stdout  *resultWriter
	json    bool
	verbose bool
	device  string
	threads int
	assets  string
	kept    string // what an interrupted command leaves behind on purpose
}

func newApp(env *Env) *app {
	return &app{env: env, stdout: &resultWriter{w: env.Stdout}}
}

// resultWriter remembers the first failed write, so that no command has to check each one.
type resultWriter struct {
	w   io.Writer
	err error
}

func (w *resultWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.w.Write(p)
	if err != nil {
		w.err = &stdoutError{pathless(err)}
		return n, w.err
	}
	return n, nil
}

// pathless drops the "write /dev/stdout:" that os.File puts before its errors.
func pathless(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// printf writes a part of the result to standard output.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.stdout, format, args...) }

// say writes a line to standard error: what was done and what to know about the result.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.env.Stderr, strings.TrimSuffix(format, "\n")+"\n", args...)
}

// detail is say under -v only.
func (a *app) detail(format string, args ...any) {
	if a.verbose {
		a.say(format, args...)
	}
}
