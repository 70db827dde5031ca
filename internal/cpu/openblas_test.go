//go:build native && cgo

package cpu

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"golang.org/x/sys/cpu"
)

func TestBLASCore(t *testing.T) {
	for _, c := range []struct {
		core         string
		avx2, avx512 bool
		want         string
	}{
		{"Prescott", true, true, "SkylakeX"},
		{"Prescott", true, false, "Haswell"},
		{"Prescott", false, false, ""},
		{"Nehalem", true, false, "Haswell"},
		{"sandybridge", true, true, "SkylakeX"},
		{"Haswell", true, true, ""}, // OpenBLAS' own choice among wide ones stands
		{"Zen", true, true, ""},
		{"SapphireRapids", true, true, ""},
		{"GraniteRapids", true, true, ""}, // of a newer library
	} {
		if got := blasCore(c.core, c.avx2, c.avx512); got != c.want {
			t.Errorf("%s with AVX2 %v and AVX-512 %v: %q, want %q", c.core, c.avx2, c.avx512, got, c.want)
		}
	}
}

// TestBLASCoreOfTheMachine looks at what the library runs in a process of its own: no kernels of SSE on a processor with AVX2, unless they are asked for.
func TestBLASCoreOfTheMachine(t *testing.T) {
	if !haveBLAS() || !cpu.X86.HasAVX2 || !cpu.X86.HasFMA {
		t.Skip("wants OpenBLAS and AVX2")
	}
	for _, c := range []struct{ env, want string }{
		{"OPENBLAS_NOTHING=", `OpenBLAS .*\((Haswell|Zen|Excavator|SkylakeX|Cooperlake|SapphireRapids)\) Used:true`},
		{"OPENBLAS_CORETYPE=Prescott", `OpenBLAS .*\(Prescott\) Used:true`},
	} {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestReport$", "-test.v")
		for _, e := range os.Environ() {
			if !regexp.MustCompile("^OPENBLAS_").MatchString(e) {
				cmd.Env = append(cmd.Env, e)
			}
		}
		cmd.Env = append(cmd.Env, c.env)
		out, err := cmd.CombinedOutput()
		if err != nil || !regexp.MustCompile(c.want).Match(out) {
			t.Errorf("%s: the report does not match %q (%v):\n%s", c.env, c.want, err, out)
		}
	}
}
