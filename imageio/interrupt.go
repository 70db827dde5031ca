package imageio

import (
	"context"
	"io"
)

// interruptible is r whose Read ends when ctx does, which a read from a
// terminal or pipe does not. It reads two chunks ahead. After the end of ctx a
// last read of r may be left waiting; it ends with the data, or the program.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	i := &interruptReader{ctx: ctx, full: make(chan chunk), free: make(chan []byte, 2)}
	for range cap(i.free) {
		i.free <- make([]byte, 1<<16)
	}
	go i.pump(r)
	return i
}

type chunk struct {
	b   []byte // of one of two buffers
	n   int
	err error
}

type interruptReader struct {
	ctx  context.Context
	full chan chunk
	free chan []byte
	now  chunk
	used int
}

func (i *interruptReader) pump(r io.Reader) {
	for {
		select {
		case b := <-i.free:
			n, err := r.Read(b)
			select {
			case i.full <- chunk{b, n, err}:
			case <-i.ctx.Done():
				return
			}
			if err != nil {
				return
			}
		case <-i.ctx.Done():
			return
		}
	}
}

func (i *interruptReader) Read(p []byte) (int, error) {
	for i.used == i.now.n {
		if i.now.err != nil {
			return 0, i.now.err
		}
		if i.now.b != nil {
			i.free <- i.now.b
		}
		i.now, i.used = chunk{}, 0
		select {
		case i.now = <-i.full:
		case <-i.ctx.Done():
			return 0, i.ctx.Err()
		}
	}
	n := copy(p, i.now.b[i.used:i.now.n])
	i.used += n
	return n, nil
}

// untilDone is a file's reader that fails once ctx has ended, so that skipping
// over a huge member of a compressed archive ends too.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
