package gpu_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
)

// Tensors that are in use at one time share no memory, whatever was freed before.
func TestArenaGivesEachTensorItsOwnMemory(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		a := dev.NewArena()
		for step := range 3 {
			a.Reset()
			live := map[*gpu.Tensor]float32{}
			for i := range 60 {
				n := 1 + (i*37)%300
				x := a.New(gpu.Float32, n/7+1, 7)
				v := make([]float32, x.Len())
				for j := range v {
					v[j] = float32(1000*step + i)
				}
				x.Set(v)
				live[x] = v[0]
				if i%3 == 2 {
					for y := range live {
						a.Free(y)
						delete(live, y)
						break
					}
				}
			}
			for x, want := range live {
				got, err := x.Floats()
				if err != nil {
					t.Fatal(err)
				}
				for j, v := range got {
					if v != want {
						t.Fatalf("element %d of shape %v is %g, want %g", j, x.Shape(), v, want)
					}
				}
			}
		}
	})
}

func TestArenaIsQuietFromTheSecondStepOn(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		a := dev.NewArena()
		step := func() {
			a.Reset()
			x := a.New(gpu.Float32, 5, 3)
			y := a.New(gpu.Float64, 100)
			a.Free(x)
			z := a.New(gpu.Float32, 8, 8)
			a.View(z, 64)
			a.New(gpu.Int32, 9)
			a.Free(y)
		}
		step()
		fresh := a.Stats()
		if n := testing.AllocsPerRun(10, step); n != 0 {
			t.Errorf("%v allocations a step", n)
		}
		if got := a.Stats(); got != fresh {
			t.Errorf("the arena went from %+v to %+v", fresh, got)
		}
		if want := int64(64*4 + 104*8 + 64*4); fresh.Peak != want { // 100 elements take the class of 104, small ones that of 64
			t.Errorf("peak of %d bytes, want %d", fresh.Peak, want)
		}
		if fresh.Fresh != 3 {
			t.Errorf("%d pieces of memory, want 3, since z has that of x", fresh.Fresh)
		}
		a.Drop()
		if s := a.Stats(); s.Held != 0 || s.Live != 0 {
			t.Errorf("after Drop %+v", s)
		}
		step()
	})
}

func TestArenaFreesSinceAMark(t *testing.T) {
	a := gpu.CPU().NewArena()
	before := a.New(gpu.Float32, 10)
	again := a.New(gpu.Float32, 1000)
	mark := a.Mark()
	a.Free(again)
	taken := a.New(gpu.Float32, 1000) // the memory of again, after the mark
	kept := a.New(gpu.Float32, 20)
	view := a.View(kept, 4, 5)
	a.New(gpu.Float32, 30)
	a.FreeSince(mark, func(yield func(*gpu.Tensor)) { yield(view) })
	if s := a.Stats(); s.Live != 2*64*4 {
		t.Errorf("%d bytes in use, want those of two small tensors, %d", s.Live, 2*64*4)
	}
	a.Free(before)
	a.Free(kept)
	defer func() {
		if recover() == nil {
			t.Error("a tensor made after the mark is still in use")
		}
	}()
	a.Free(taken)
}

func TestArenaPoisonAndViews(t *testing.T) {
	a := gpu.CPU().NewArena()
	a.Poison(true)
	x := a.New(gpu.Float32, 2, 3)
	v := a.View(x, 3, 2)
	if !math.IsNaN(float64(x.F32()[0])) || &x.F32()[0] != &v.F32()[0] || !slices.Equal(v.Shape(), []int{3, 2}) {
		t.Errorf("poison %v, view %v", x.F32(), v.Shape())
	}
	if e := a.New(gpu.Float32, 0, 4); e.Len() != 0 {
		t.Errorf("an empty tensor has %d elements", e.Len())
	}
	for name, f := range map[string]func(){
		"Free: tensor of shape [3 2]": func() { a.Free(x); a.Free(v) },
		"is not one of the arena":     func() { a.Free(gpu.CPU().Empty(4)) },
		"does not hold 7":             func() { a.View(a.New(gpu.Float32, 7), 2, 3) },
		"negative size":               func() { a.New(gpu.Float32, -1) },
		"unknown dtype":               func() { a.New(99, 1) },
	} {
		func() {
			defer func() {
				if v := fmt.Sprint(recover()); !strings.Contains(v, name) {
					t.Errorf("%s: %s", name, v)
				}
			}()
			f()
		}()
	}
}
