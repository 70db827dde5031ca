package imageio

import "io"

// endMark counts the zero bytes at the end of what was read. A tar ends with
// blocks of zeros, which archive/tar does not insist on: without the count, an
// archive that was cut between two members would pass for a shorter one.
type endMark struct {
	r     io.Reader
	zeros int
}

func (e *endMark) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	k := n
	for k > 0 && p[k-1] == 0 {
		k--
	}
	if k > 0 {
		e.zeros = 0
	}
	e.zeros += n - k
	return n, err
}

// seekingMark is an endMark over a file: the tar reader seeks over what it skips.
type seekingMark struct {
	*endMark
	io.Seeker
}

func (m seekingMark) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 {
		m.zeros = 0
	}
	return m.Seeker.Seek(offset, whence)
}

// reader is e, with its file's Seek where it has one.
func (e *endMark) reader() io.Reader {
	if s, ok := e.r.(io.Seeker); ok {
		return seekingMark{e, s}
	}
	return e
}
