//go:build native && cgo && linux

package cuda

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

// fakeFatbin is a fatbin of that many entries without code: cubins for 8.0 and 9.0, PTX for 8.0.
func fakeFatbin() string {
	var entries []byte
	for _, e := range []struct{ kind, arch int }{{kindCubin, 80}, {kindCubin, 90}, {kindPTX, 80}} {
		h := make([]byte, 64+8)
		binary.LittleEndian.PutUint16(h, uint16(e.kind))
		binary.LittleEndian.PutUint32(h[4:], 64)
		binary.LittleEndian.PutUint64(h[8:], 8)
		binary.LittleEndian.PutUint32(h[28:], uint32(e.arch))
		entries = append(entries, h...)
	}
	head := binary.LittleEndian.AppendUint32(nil, fatbinMagic)
	head = binary.LittleEndian.AppendUint16(head, 1)
	head = binary.LittleEndian.AppendUint16(head, 16)
	return string(append(binary.LittleEndian.AppendUint64(head, uint64(len(entries))), entries...))
}

func openFake(t *testing.T) (*Dev, *Stream) {
	t.Helper()
	Register("fake", fakeFatbin())
	d, err := Open(0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	return d, s
}

var (
	scaleFunc = Func{"fake", "scale"}
	faultFunc = Func{"fake", "fault"}
)

// launchScale sets y to f x for n floats.
func launchScale(s *Stream, g Grid, y, x Ptr, f float32, n int32) {
	var a Args
	a.Ptr(y)
	a.Ptr(x)
	a.F32(f)
	a.I32(n)
	s.Launch(scaleFunc, g, &a)
}

func floats(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

// One path through everything, with sizes around those of the staging buffers.
func TestCopyLaunchCopy(t *testing.T) {
	withFake(t, "good", func(t *testing.T) {
		d, s := openFake(t)
		for _, n := range []int{0, 1, 5, stageSize/4 - 1, stageSize / 4, stageSize/4 + 1, stageSize/2 + 3} {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(i % 1000)
			}
			p, q := s.Alloc(4*n), s.Alloc(4*n)
			s.CopyIn(p, floats(x))
			launchScale(s, Grid1(n, 1024, 256), q, p, 3, int32(n))
			s.Memset(p, 0, 4*n)
			s.Copy(p, q, 4*n)
			y := make([]float32, n)
			if err := s.CopyOut(floats(y), p); err != nil {
				t.Fatal(err)
			}
			for i := range y {
				if y[i] != 3*x[i] {
					t.Fatalf("n = %d: y[%d] is %g, want %g", n, i, y[i], 3*x[i])
				}
			}
			s.Free(p)
			s.Free(q)
		}
		other, err := Open(1)
		if err != nil {
			t.Fatal(err)
		}
		o, err := other.NewStream()
		if err != nil {
			t.Fatal(err)
		}
		a, b := s.Alloc(8), o.Alloc(8)
		s.CopyIn(a, []byte("peerpeer"))
		o.CopyFrom(b, a, s, 8)
		got := make([]byte, 8)
		if err := o.CopyOut(got, b); err != nil || string(got) != "peerpeer" {
			t.Errorf("from the other device: %q, %v", got, err)
		}
		if err := d.Sync(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A launch of the kernel is one call into C and no allocation.
func TestLaunchAllocatesNothing(t *testing.T) {
	withFake(t, "good", func(t *testing.T) {
		_, s := openFake(t)
		p := s.Alloc(64)
		launchScale(s, Grid1(16, 1024, 256), p, p, 1, 16)
		if n := testing.AllocsPerRun(1000, func() { launchScale(s, Grid1(16, 1024, 256), p, p, 1, 16) }); n != 0 {
			t.Errorf("%g allocations a launch", n)
		}
		o, err := s.Dev().NewStream()
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(1000, func() {
			s.After(o)
			s.Memset(p, 1, 64)
			s.Free(s.Alloc(1000))
		}); n > 1 { // the arena's entry of what is live
			t.Errorf("%g allocations for a wait, a memset and a piece of memory", n)
		}
		if err := s.Sync(); err != nil {
			t.Error(err)
		}
	})
}

// Each misuse has its message, sticks, and is gone after Recover.
func TestLaunchErrors(t *testing.T) {
	withFake(t, "good", func(t *testing.T) {
		_, s := openFake(t)
		p := s.Alloc(64)
		g := Grid{X: 1, Y: 1, Z: 1, BX: 32}
		with := func(f func(*Grid)) Grid {
			h := g
			f(&h)
			return h
		}
		for _, c := range []struct {
			f    Func
			g    Grid
			want string
		}{
			{scaleFunc, with(func(g *Grid) { g.BX = 2048 }), "cuda: scale: launch 1x1x1 of 2048 threads: invalid value (the block limit is 1024)"},
			{scaleFunc, with(func(g *Grid) { g.BX = 1024 }), "cuda: scale: launch 1x1x1 of 1024 threads: invalid value (the block limit of this kernel is 512)"},
			{scaleFunc, with(func(g *Grid) { g.BX, g.BZ = 2, 128 }), "cuda: scale: launch 1x1x1 of 256 threads: invalid value (the block limit in z is 64)"},
			{scaleFunc, with(func(g *Grid) { g.BY = 1 << 62 }), "cuda: scale: launch 1x1x1 of 0 threads: invalid value (the block limit is 1024)"},
			{scaleFunc, with(func(g *Grid) { g.Shared = 1 << 40 }), "cuda: scale: launch 1x1x1 of 32 threads and 1099511627776 bytes of shared memory: invalid value (more shared memory than any device has)"},
			{scaleFunc, with(func(g *Grid) { g.X = 1 << 31 }), "cuda: scale: launch 2147483648x1x1 of 32 threads: invalid value (the grid limit in x is 2147483647)"},
			{scaleFunc, with(func(g *Grid) { g.Y = 65536 }), "cuda: scale: launch 1x65536x1 of 32 threads: invalid value (the grid limit in y and z is 65535)"},
			{scaleFunc, with(func(g *Grid) { g.X = -1 }), "cuda: scale: launch -1x1x1 of 32 threads: invalid value (negative or zero size)"},
			{scaleFunc, with(func(g *Grid) { g.Shared = 232448 }), "cuda: scale: launch 1x1x1 of 32 threads and 232448 bytes of shared memory: the device allows 231424 bytes of dynamic shared memory to this kernel"},
			{Func{"fake", "nosuch"}, g, "cuda: nosuch: module fake has no such kernel; make kernels builds it"},
			{Func{"nosuch", "f"}, g, `cuda: f: no module "nosuch" is registered; import package kernels`},
		} {
			var a Args
			for range 4 {
				a.Ptr(p)
			}
			s.Launch(c.f, c.g, &a)
			s.Fail(errors.New("a second error"))
			if err := s.Sync(); err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if err := s.Recover(); err == nil || s.Err() != nil {
				t.Errorf("Recover: %v, then %v", err, s.Err())
			}
		}
		for _, g := range []Grid{Grid1(0, 1024, 256), {X: 1, Z: 1, BX: 4096}} { // no block: nothing to refuse
			s.Launch(scaleFunc, g, &Args{})
		}
		for _, bytes := range []int{48<<10 - 1024, 48 << 10, 200 << 10} { // beyond 48 KiB with the kernel's own 1024 it is asked for
			launchScale(s, with(func(g *Grid) { g.Shared = bytes }), p, p, 1, 0)
		}
		if err := s.Sync(); err != nil {
			t.Error(err)
		}
	})
}

// Code for other devices, damaged code and code of a newer compiler are told apart.
func TestModuleErrors(t *testing.T) {
	for _, c := range []struct{ mode, fatbin, want string }{
		{"noimage", fakeFatbin(), `cuda: scale: module "fake" has no code for compute capability 9.0; built for 8.0, 8.0 and newer (PTX), 9.0`},
		{"badimage", fakeFatbin(), `cuda: scale: module "fake" is damaged: the driver says invalid device code; make kernels builds it anew`},
		{"newptx", fakeFatbin(), `cuda: scale: module "fake": its PTX is newer than the driver`},
		{"oscall", fakeFatbin(), `cuda: scale: module "fake": OS call failed or operation not supported on this OS (driver error 304)`},
		{"good", "", `cuda: scale: module "fake": the kernels are not built: make kernels`},
		{"good", fakeFatbin()[:200], `cuda: scale: module "fake" is damaged: the header promises 216 bytes and 184 are there; make kernels builds it anew`},
		{"good", "ELF" + fakeFatbin(), `cuda: scale: module "fake" is damaged: no fatbin header 235 bytes before the end; make kernels builds it anew`},
	} {
		t.Run(c.mode+string(rune('a'+len(c.fatbin)%7)), func(t *testing.T) {
			withFake(t, c.mode, func(t *testing.T) {
				Register("fake", c.fatbin)
				d, err := Open(0)
				if err != nil {
					t.Fatal(err)
				}
				s, err := d.NewStream()
				if err != nil {
					t.Fatal(err)
				}
				launchScale(s, Grid1(1, 1, 32), 0, 0, 1, 0)
				if err := s.Err(); err == nil || err.Error() != c.want {
					t.Errorf("got  %v\nwant %s", err, c.want)
				}
			})
		})
	}
}

// A fault ends the whole device: every stream says so, Recover does not help.
func TestLostDevice(t *testing.T) {
	withFake(t, "good", func(t *testing.T) {
		d, s := openFake(t)
		o, err := d.NewStream()
		if err != nil {
			t.Fatal(err)
		}
		s.Launch(faultFunc, Grid1(1, 1, 32), &Args{})
		err = s.Sync()
		want := "cuda: sync: illegal memory access in this or an earlier launch; the device is lost to this process: start it again (FIDLAB_SYNC=1 names the launch)"
		if err == nil || err.Error() != want || !errors.Is(err, ErrLost) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		for name, err := range map[string]error{"the other stream": o.Sync(), "Recover": s.Recover(), "Dev": d.Err()} {
			if !errors.Is(err, ErrLost) {
				t.Errorf("%s: %v, want ErrLost", name, err)
			}
		}
		if _, err := d.NewStream(); !errors.Is(err, ErrLost) {
			t.Errorf("NewStream: %v, want ErrLost", err)
		}
	})
}

// A graph repeats what was recorded, on the memory as it is then.
func TestCapture(t *testing.T) {
	withFake(t, "good", func(t *testing.T) {
		_, s := openFake(t)
		p, q := s.Alloc(16), s.Alloc(16)
		s.CopyIn(p, floats([]float32{1, 2, 3, 4}))
		s.Memset(q, 0, 16)
		g, err := s.Capture(func() {
			launchScale(s, Grid1(4, 1024, 256), q, p, 2, 4)
			s.Copy(p, q, 16)
		})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, 4)
		if err := s.CopyOut(floats(got), q); err != nil || got[3] != 0 {
			t.Fatalf("Capture has done the work: %v, %v", got, err)
		}
		for range 10 {
			s.LaunchGraph(g)
		}
		second, err := Open(1)
		if err != nil {
			t.Fatal(err)
		}
		o, err := second.NewStream()
		if err != nil {
			t.Fatal(err)
		}
		o.LaunchGraph(g)
		if err := o.Err(); err == nil || err.Error() != "cuda: LaunchGraph: the graph is of cuda:0, the stream of cuda:1; capture it there" {
			t.Errorf("on another device: %v", err)
		}
		if err := s.CopyOut(floats(got), q); err != nil || got[3] != 4<<10 {
			t.Errorf("after 10 repeats: %v, %v; want 4096 at the end", got, err)
		}
		for name, f := range map[string]func(){
			"an allocation of 1.0 KiB": func() { s.Alloc(1024) },
			"Free":                     func() { s.Free(p) },
			"Sync":                     func() { _ = s.Sync() },
			"a copy from the host":     func() { s.CopyIn(p, make([]byte, 4)) },
			"a copy to the host":       func() { _ = s.CopyOut(make([]byte, 4), p) },
		} {
			_, err := s.Capture(f)
			if err == nil || !strings.HasPrefix(err.Error(), "cuda: "+name+" during capture: ") {
				t.Errorf("%s: %v", name, err)
			}
			if s.Recover() == nil {
				t.Errorf("%s: no error sticks to the stream", name)
			}
		}
		if _, err := s.Capture(func() {
			if _, err := s.Capture(func() {}); err == nil {
				t.Error("Capture within Capture is accepted")
			}
		}); err != nil {
			t.Error(err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is lost")
				}
			}()
			_, _ = s.Capture(func() { panic("in a step") })
		}()
		if err := s.Sync(); err != nil {
			t.Errorf("after a panic within Capture: %v", err)
		}
	})
}

// FIDLAB_SYNC names each launch and its time, and the launch at fault.
func TestTrace(t *testing.T) {
	t.Setenv("FIDLAB_SYNC", "1")
	withFake(t, "good", func(t *testing.T) {
		_, s := openFake(t)
		var out bytes.Buffer
		traceTo = &out
		p := s.Alloc(64)
		launchScale(s, Grid1(16, 1024, 256), p, p, 1, 16)
		if line := out.String(); !strings.HasPrefix(line, "fidlab: scale ") || !strings.HasSuffix(line, " us  1x1x1 of 256 threads\n") {
			t.Errorf("the line is %q", line)
		}
		out.Reset()
		graph, err := s.Capture(func() { launchScale(s, Grid1(16, 1024, 256), p, p, 1, 16) })
		if err != nil || out.Len() != 0 {
			t.Errorf("within Capture: %v, %q", err, out.String())
		}
		s.LaunchGraph(graph)
		if line := out.String(); !strings.HasPrefix(line, "fidlab: graph ") {
			t.Errorf("the line is %q", line)
		}
		s.Launch(faultFunc, Grid1(1, 1, 32), &Args{})
		if err := s.Err(); err == nil || !strings.HasPrefix(err.Error(), "cuda: fault: launch 1x1x1 of 32 threads: illegal memory access") {
			t.Errorf("the launch at fault: %v", err)
		}
	})
}

func TestEvents(t *testing.T) {
	withFake(t, "good", func(t *testing.T) {
		d, s := openFake(t)
		a, err := d.NewEvent()
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.NewEvent()
		if err != nil {
			t.Fatal(err)
		}
		p := s.Alloc(4 << 20)
		s.Record(a)
		s.Memset(p, 1, 4<<20)
		s.Record(b)
		s.Wait(a)
		if took, err := b.Since(a); err != nil || took <= 0 {
			t.Errorf("a memset of 4 MiB took %v, %v", took, err)
		}
	})
}

// Many goroutines use streams of their own and one that they share.
func TestConcurrency(t *testing.T) {
	withFake(t, "good", func(t *testing.T) {
		d, shared := openFake(t)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				s, err := d.NewStream()
				if err != nil {
					t.Error(err)
					return
				}
				x, y := make([]float32, 500), make([]float32, 500)
				for k := range x {
					x[k] = float32(i)
				}
				for range 50 {
					p, q := s.Alloc(2000), shared.Alloc(2000)
					s.CopyIn(p, floats(x))
					launchScale(s, Grid1(500, 256, 256), p, p, 2, 500)
					shared.CopyFrom(q, p, s, 2000)
					if err := shared.CopyOut(floats(y), q); err != nil || y[499] != float32(2*i) {
						t.Errorf("goroutine %d: %g, %v", i, y[499], err)
						return
					}
					s.Free(p)
					shared.Free(q)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
		}
		wg.Wait()
		if err := d.Sync(); err != nil {
			t.Error(err)
		}
		if m := d.Memory(); m.Live != 0 {
			t.Errorf("%d bytes are still live", m.Live)
		}
	})
}

// Streams come and go while others take over their memory and the device is waited for.
func TestClose(t *testing.T) {
	withFake(t, "good", func(t *testing.T) {
		d, s := openFake(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 100 {
					o, err := d.NewStream()
					if err != nil {
						t.Error(err)
						return
					}
					p := o.Alloc(3 << 20)
					o.Memset(p, 1, 3<<20)
					o.Free(p)
					s.After(o)
					if err := d.Sync(); err != nil {
						t.Error(err)
					}
					if err := o.Close(); err != nil {
						t.Error(err)
					}
					s.After(o) // nothing is left to wait for
					if err := o.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if err := s.Sync(); err != nil {
			t.Error(err)
		}
		if m := d.Memory(); m.Live != 0 || m.Cached > 64<<20 {
			t.Errorf("%+v", m)
		}
	})
}
