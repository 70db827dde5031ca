package cli

import (
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// Env is everything of the process that a command may touch.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	IsTTY          bool // standard error is a terminal, so progress is a moving bar
	Now            func() time.Time
	Getenv         func(string) string
}

// System is the Env of the running process.
func System() *Env {
	return &Env{
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		IsTTY:  term.IsTerminal(int(os.Stderr.Fd())),
		Now:    time.Now,
		Getenv: os.Getenv,
	}
}
