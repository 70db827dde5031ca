package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/gpu"
)

// promptsFile tells, of pictures in a folder or a tar, the caption of each: a line {"file_name": …, "text": …} a picture.
const promptsFile = "prompts.jsonl"

// promptLine is a line of promptsFile.
type promptLine struct {
	File string `json:"file_name"`
	Text string `json:"text"`
}

// promptOptions are the flags of captions.
type promptOptions struct {
	list     []string // asked for in turn
	file     string
	negative string
	away     bool // from negative, which was given
}

func (o *promptOptions) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.list, "prompt", nil, "draw by the caption `TEXT`; of several, each with a --prompt, in turn")
	f.StringVar(&o.file, "prompt-file", "", "draw by the captions in `F`, one a line, in turn")
	f.StringVar(&o.negative, "negative-prompt", "", "guide away from the caption `TEXT` instead of from the empty one")
}

func (o *promptOptions) given(cmd *cobra.Command) { o.away = cmd.Flags().Changed("negative-prompt") }

// read takes in the captions of the file. An empty line ends nothing and asks for nothing.
func (o *promptOptions) read() error {
	if o.file == "" {
		return nil
	}
	if len(o.list) > 0 {
		return usagef("--prompt and --prompt-file both give captions; give one")
	}
	b, err := os.ReadFile(o.file)
	if err != nil {
		return &inputError{err}
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if text := strings.TrimSpace(lines.Text()); text != "" {
			o.list = append(o.list, text)
		}
	}
	if err := lines.Err(); err != nil {
		return inputf("%s: %w", o.file, err)
	}
	if len(o.list) == 0 {
		return inputf("%s: no captions in it", o.file)
	}
	return nil
}

// apply makes the captions the inputs of a model that draws by them, for n samples.
func (o *promptOptions) apply(m *model, n int) error {
	switch {
	case m.prompt == nil && (len(o.list) > 0 || o.away):
		return usagef("--prompt: model %s takes no captions", m.name)
	case m.prompt == nil:
		return nil
	case len(o.list) == 0:
		return usagef("model %s draws by captions; give --prompt or --prompt-file", m.name)
	}
	captions := append(append([]string{}, o.list[:min(n, len(o.list))]...), o.negative)
	all, err := m.prompt(captions)
	if err != nil {
		return err
	}
	m.inputs, m.null = map[string]*gpu.Tensor{}, map[string]*gpu.Tensor{}
	for name, t := range all {
		last := len(captions) - 1
		m.inputs[name], m.null[name] = repeated(t.Rows(0, last), n), t.Rows(last, last+1)
	}
	return nil
}

// lines is the text of promptsFile, for pictures from number first on.
func promptLines(prompts []string, first, n int) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i := range n {
		enc.Encode(promptLine{pictureName(first + i), prompts[i%len(prompts)]}) // strings, into memory
	}
	return b.Bytes()
}
