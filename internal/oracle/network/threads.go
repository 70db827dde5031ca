package network

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/cpu"
)

// SameBits fails where what bits returns, without spaces, depends on the number of threads. Each
// number is a process of its own, which runs the test that calls it, and no other.
func SameBits(t *testing.T, threads []int, bits func() string) {
	t.Helper()
	const variable = "FIDLAB_TEST_THREADS"
	if s := os.Getenv(variable); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		cpu.SetThreads(n)
		fmt.Printf("bits=%s %d\n", bits(), cpu.Workers())
		return
	}
	seen := map[string][]int{}
	for _, n := range threads {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), fmt.Sprint(variable, "=", n))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%d threads: %v\n%s", n, err, out)
		}
		_, line, ok := strings.Cut(string(out), "bits=")
		is, rest, _ := strings.Cut(line, " ")
		if got, _, _ := strings.Cut(rest, "\n"); !ok || is == "" || got != strconv.Itoa(n) {
			t.Fatalf("%d threads: the process says %q", n, out)
		}
		seen[is] = append(seen[is], n)
	}
	if len(seen) != 1 {
		t.Errorf("the bits depend on the number of threads: %v", seen)
	}
}
