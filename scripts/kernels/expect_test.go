package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		kind, instruction string
		want              bool
	}{
		{"HMMA", "HMMA.16816.F32.BF16", true},
		{"HMMA.F32", "HMMA.16816.F32.BF16", true},
		{"HMMA.BF16.F32", "HMMA.16816.F32.BF16", false},
		{"HMMA", "HMMA2", false},
		{"LDG.E.128", "LDG.E.128.CONSTANT", true},
		{"LDG.E.128", "LDG.E.EF.128", true},
		{"LDG.E.128", "LDG.E.64", false},
		{"LDG.E.128", "LDG.E", false},
		{"LDGSTS.128", "LDGSTS.E.BYPASS.LTC128B.128", true},
		{"LDG", "LDGSTS.E", false},
	} {
		if got := matches(c.kind, c.instruction); got != c.want {
			t.Errorf("%s counts %s: %v", c.kind, c.instruction, got)
		}
	}
}

func TestRules(t *testing.T) {
	kernels := []string{"a_f32", "a_f16", "a_bf16"}
	for _, c := range []struct{ text, want string }{
		{"regs <= 40, occupancy >= 37.5", "[* * regs <= 40] [* * occupancy >= 37.5]"},
		{"has HMMA LDSM.16", "[* * HMMA >= 1] [* * LDSM.16 >= 1]"},
		{"not LDL  STL", "[* * LDL <= 0] [* * STL <= 0]"},
		{"a_f16: regs <= 48, has HFMA2", "[a_f16 * regs <= 48] [a_f16 * HFMA2 >= 1]"},
		{"a_f16 a_bf16: block 128; dynamic 9", "[a_f16 * block == 128] [a_bf16 * block == 128] [a_f16 * dynamic == 9] [a_bf16 * dynamic == 9]"},
		{"a_f16 sm_90a: HMMA >= 8", "[a_f16 sm_90a HMMA >= 8]"},
		{"a_f16: sm_90a: HMMA == 8", "[a_f16 sm_90a HMMA == 8]"},
		{"regs <= 40, sm_80: regs <= 64", "[* * regs <= 40] [* sm_80 regs <= 64]"},
		{"regs <= forty", `"regs <= forty" is no expectation`},
		{"regs < 40", `"regs < 40" is no expectation`},
		{"regs <= 4.0.0", "invalid syntax"},
		{"spills <= 0", `"spills" is neither`},
		{"has", `"has" is no expectation`},
		{"has hmma", `"hmma" is no instruction`},
		{"sm_70: regs <= 4", `"sm_70" is neither a kernel`},
	} {
		rules, err := parseRules(c.text, 1, kernels)
		var list []string
		for _, r := range rules {
			list = append(list, fmt.Sprintf("[%s %s %s]", star(r.kernel), star(r.arch), r))
		}
		got := strings.Join(list, " ")
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: %v, want %s", c.text, err, c.want)
			}
			continue
		}
		if got != c.want {
			t.Errorf("%q\ngot  %s\nwant %s", c.text, got, c.want)
		}
	}
}

func star(s string) string {
	if s == "" {
		return "*"
	}
	return s
}

// The narrowest scope holds alone.
func TestRulesFor(t *testing.T) {
	c := &contract{kernels: []string{"a_f32", "a_f16"}}
	for i, text := range []string{"regs <= 40, regs >= 8, not HMMA", "sm_80: regs <= 50", "a_f16: regs <= 60, has HMMA", "a_f16 sm_90a: regs <= 70"} {
		rules, err := parseRules(text, i, c.kernels)
		if err != nil {
			t.Fatal(err)
		}
		c.rules = append(c.rules, rules...)
	}
	for _, q := range []struct{ kernel, arch, subject, want string }{
		{"a_f32", "sm_90a", "regs", "[regs <= 40 regs >= 8]"},
		{"a_f32", "sm_80", "regs", "[regs <= 50]"},
		{"a_f16", "sm_80", "regs", "[regs <= 60]"},
		{"a_f16", "sm_90a", "regs", "[regs <= 70]"},
		{"a_f32", "sm_80", "HMMA", "[HMMA <= 0]"},
		{"a_f16", "sm_100", "HMMA", "[HMMA >= 1]"},
		{"a_f16", "sm_100", "LDSM", "[]"},
	} {
		if got := fmt.Sprint(c.rulesFor(q.kernel, q.arch, q.subject)); got != q.want {
			t.Errorf("%s of %s on %s: %s, want %s", q.subject, q.kernel, q.arch, got, q.want)
		}
	}
}

// Occupancy by hand, for each of the five limits.
func TestOccupancy(t *testing.T) {
	for _, c := range []struct {
		arch                  string
		threads, regs, shared int
		want                  float64
		why                   string
	}{
		{"sm_80", 256, 32, 0, 100, "32 registers: 1024 a warp, 16 warps a partition, 64 in all, 8 blocks"},
		{"sm_80", 256, 33, 0, 75, "33 registers round up to 1280 a warp: 12 warps a partition, 48 in all, 6 blocks of 8"},
		{"sm_80", 256, 64, 0, 50, "2048 a warp: 8 a partition, 32 warps, 4 blocks"},
		{"sm_80", 256, 65, 0, 37.5, "2304 a warp: 7 a partition, 28 warps, 3 blocks of 8"},
		{"sm_80", 128, 255, 0, 12.5, "8192 a warp: 2 a partition, 8 warps, 2 blocks of 4"},
		{"sm_80", 32, 16, 0, 50, "32 blocks of one warp"},
		{"sm_80", 1024, 64, 0, 50, "one block of 32 warps"},
		{"sm_80", 1024, 65, 0, 0, "28 warps: not one block"},
		{"sm_80", 128, 32, 20608, 43.75, "20608 + 1024 = 21632 = 169 units; 167936 / 21632 = 7 blocks of 4 warps"},
		{"sm_90a", 128, 32, 20608, 62.5, "233472 / 21632 = 10 blocks"},
		{"sm_80", 256, 32, 163 << 10, 12.5, "the most that one block may have"},
		{"sm_90a", 256, 32, 227 << 10, 12.5, "the most that one block may have"},
		{"sm_90a", 256, 32, 227<<10 + 1, 0, "a byte more"},
		{"sm_100", 100, 40, 0, 75, "100 threads are 4 warps; 1280 a warp: 48 warps, 12 blocks"},
		{"sm_80", 0, 32, 0, 0, "no threads"},
		{"sm_80", 4096, 32, 0, 0, "more than a multiprocessor has"},
	} {
		if got := occupancy(c.arch, c.threads, c.regs, c.shared); got != c.want {
			t.Errorf("%s, %d threads, %d registers, %d bytes: %g %%, want %g %%: %s", c.arch, c.threads, c.regs, c.shared, got, c.want, c.why)
		}
	}
}

// The launch line gives numbers only where they are plain numbers.
func TestLaunchLine(t *testing.T) {
	for text, want := range map[string][2]int{
		"grid ceil(n / 1024), block 256, shared 0. Each thread does 4.":      {256, 0},
		"grid D, block 32 x 8, shared 4224 bytes.":                           {256, 4224},
		"grid (D, B), block 8 x 4 x 2, shared up to 4096":                    {64, 4096},
		"grid n, block 128, shared 16 cp bytes. A warp a row.":               {128, -1},
		"grid n, block 256 (64 for D <= 16), shared (D + 1) D elements":      {0, -1},
		"f64: block 128, shared 61440. f32: block 256, shared 16896. A tile": {0, -1},
		"grid n, block 128: four warps; a block shares 4 rows":               {128, -1},
	} {
		c := contract{fields: map[string]field{"launch": {text: text}}}
		c.readLaunch()
		if got := [2]int{c.block, c.shared}; got != want {
			t.Errorf("%q: block and shared are %v, want %v", text, got, want)
		}
	}
}
