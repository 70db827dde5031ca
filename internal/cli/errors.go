package cli

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/sampler"
)

// The exit codes; every command has the same.
const (
	exitOK          = 0
	exitFailed      = 1   // a disk full, a library broken, anything not listed below
	exitUsage       = 2   // the command line itself: flags, names, number of arguments
	exitBadInput    = 3   // a file or folder that is missing, damaged or does not fit
	exitNumeric     = 4   // the inputs are readable, but the number would mean nothing
	exitInterrupted = 130 // SIGINT or SIGTERM
)

// usageError is a command line that cannot be understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// inputError marks an error as one of the input's contents.
type inputError struct{ err error }

func (e *inputError) Error() string { return e.err.Error() }
func (e *inputError) Unwrap() error { return e.err }

func inputf(format string, args ...any) error {
	return &inputError{fmt.Errorf(format, args...)}
}

// refusedError is a number that would mean nothing.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

func refusedf(format string, args ...any) error {
	return &refusedError{fmt.Errorf(format, args...)}
}

// stdoutError is a failed write of the result.
type stdoutError struct{ err error }

func (e *stdoutError) Error() string { return "standard output: " + e.err.Error() }
func (e *stdoutError) Unwrap() error { return e.err }

// exitCode is the one place where errors become exit codes.
func exitCode(err error) int {
	var (
		usage  *usageError
		input  *inputError
		stdout *stdoutError
		bad    *fid.BadInputError
		means  *fid.NumericError
		refuse *refusedError
		finite *sampler.NotFiniteError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &stdout) && errors.Is(err, syscall.EPIPE):
		return exitOK // the reader has seen enough: `fidlab … | head -1`
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &input), errors.As(err, &bad), errors.Is(err, imageio.ErrInput):
		return exitBadInput
	case errors.As(err, &means), errors.As(err, &refuse), errors.As(err, &finite):
		return exitNumeric
	}
	return exitFailed
}
