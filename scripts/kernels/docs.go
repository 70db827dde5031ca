package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
)

const docsHead = `# The kernels

Made by ` + "`make kernels`" + ` from the contracts in ` + "`kernels/*.cu`" + ` and from what the disassembler says of the compiled code; do not edit.

Every kernel is compiled by nvcc ` + pinned + ` for sm_80, sm_90a and sm_100, with PTX for what comes later, unless its contract names fewer. Registers are per thread; shared memory is
what one block of the launch takes, static and dynamic; occupancy is how much of a multiprocessor's 64 warps run at a time with them. No kernel spills
registers or uses local memory: a build that does fails. Instruction counts are those in the code, not those executed. What stands under *expected* is
written by hand from the design and checked by ` + "`go run ./scripts/kernels report`" + `.

`

// doc writes the page of all kernels.
func (h *house) doc(check bool) error {
	all, err := h.load()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString(docsHead)
	writeIndex(&b, all)
	for _, s := range all {
		r, err := h.readRecord(s.stem)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s: not compiled yet; run make kernels", s.file)
		}
		if err != nil {
			return err
		}
		lines, err := judge(s, r)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "\n## %s.cu\n", s.stem)
		for _, c := range s.contracts {
			writeContract(&b, c)
			writeMeasured(&b, c, lines)
		}
	}
	old, err := os.ReadFile(h.docs)
	if err == nil && bytes.Equal(old, b.Bytes()) {
		return nil
	}
	if check {
		return errors.New("docs/KERNELS.md is stale; run make kernels")
	}
	fmt.Println("wrote docs/KERNELS.md")
	return writeFile(h.docs, b.Bytes())
}

func writeIndex(b *bytes.Buffer, all []*source) {
	b.WriteString("| kernel | file | what | bound |\n|---|---|---|---|\n")
	for _, s := range all {
		for _, c := range s.contracts {
			fmt.Fprintf(b, "| `%s` | [%s.cu](#%scu) | %s | %s |\n", strings.Join(c.kernels, "` `"), s.stem, s.stem, cell(c.title), cell(c.fields["bound"].text))
		}
	}
}

// cell makes one line of Markdown that holds no column bar and no stray emphasis.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", "&lt;").Replace(strings.Join(strings.Fields(text), " "))
}

func writeContract(b *bytes.Buffer, c *contract) {
	fmt.Fprintf(b, "\n### %s - %s\n\n", c.name, cell(c.title))
	if len(c.intro) > 0 {
		fmt.Fprintf(b, "```\n%s\n```\n\n", strings.Join(c.intro, "\n"))
	}
	b.WriteString("| | |\n|---|---|\n")
	for _, f := range []struct{ name, label string }{
		{"kernels", "kernels"},
		{"shapes", "shapes"},
		{"arch", "compiled for"},
		{"params", "parameters"},
		{"launch", "launch"},
		{"bound", "bound"},
		{"expect", "expected"},
		{"repro", "reproducible"},
		{"twin", "twin"},
		{"source", "source"},
		{"note", "note"},
	} {
		text := cell(c.fields[f.name].text)
		if f.name == "expect" {
			var list []string
			for _, e := range c.expects {
				list = append(list, cell(e.text))
			}
			text = strings.Join(list, "; ")
		}
		if text != "" {
			fmt.Fprintf(b, "| %s | %s |\n", f.label, text)
		}
	}
}

func writeMeasured(b *bytes.Buffer, c *contract, lines []line) {
	b.WriteString("\n| kernel | on | registers | shared | threads | occupancy | instructions | of these |\n|---|---|---:|---:|---:|---:|---:|---|\n")
	for _, l := range lines {
		for _, k := range c.kernels {
			if k == l.Kernel {
				fmt.Fprintf(b, "| `%s` | %s | %d | %d | %d | %.0f %% | %d | %s |\n", l.Kernel, l.Arch, l.Regs, l.total, l.block, l.occupancy, l.Instructions, mix(l.usage))
			}
		}
	}
}
