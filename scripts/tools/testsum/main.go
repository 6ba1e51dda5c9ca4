// Testsum turns the output of `go test -json` on its standard input into what a
// person wants to read: the closing line of each package, everything that a
// failed test said, and the number of tests. It exits with 1 when a test failed
// or none ran.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action  string `json:"Action"`
	Package string `json:"Package"`
	Test    string `json:"Test"`
	Output  string `json:"Output"`
}

// summary is what was seen so far.
type summary struct {
	out     io.Writer
	lines   []string                    // closing lines of packages
	output  map[string]*strings.Builder // by package and test, until it ends
	broken  map[string]bool             // packages with a failed test
	shuffle map[string]string           // how to run a package in the same order again
	passed  int
	failed  int
	skipped int
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, output: map[string]*strings.Builder{}, broken: map[string]bool{}, shuffle: map[string]string{}}
}

func main() {
	report := flag.String("report", "", "file that gets the closing lines and the count")
	flag.Parse()
	s := newSummary(os.Stdout)
	if err := run(s, os.Stdin, *report); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if !s.ok() {
		os.Exit(1)
	}
}

func run(s *summary, in io.Reader, report string) error {
	if err := s.read(in); err != nil {
		return fmt.Errorf("read test output: %w", err)
	}
	_, _ = fmt.Fprintln(s.out, s.count())
	if report == "" {
		return nil
	}
	text := strings.Join(append(s.lines, s.count()), "\n") + "\n"
	if err := os.WriteFile(report, []byte(text), 0o644); err != nil { //nolint:gosec // for everybody to read
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// read takes events until the end; a line that is none is passed on.
func (s *summary) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				_, _ = s.out.Write(line)
			} else {
				s.take(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) take(e event) {
	switch {
	case e.Action == "build-output":
		_, _ = io.WriteString(s.out, e.Output)
	case e.Test == "":
		s.takePackage(e)
	default:
		s.takeTest(e)
	}
}

// takePackage passes on what the package itself says, but for what nobody needs
// to know of a package that passed.
func (s *summary) takePackage(e event) {
	switch e.Action {
	case "output":
		switch {
		case e.Output == "PASS\n", strings.HasPrefix(e.Output, "?   \t"):
			return
		case strings.HasPrefix(e.Output, "-test.shuffle "):
			s.shuffle[e.Package] = e.Output
			return
		case strings.HasPrefix(e.Output, "ok  \t"), strings.HasPrefix(e.Output, "FAIL\t"):
			s.lines = append(s.lines, strings.TrimRight(e.Output, "\n"))
		}
		_, _ = io.WriteString(s.out, e.Output)
	case "fail":
		s.failPackage(e.Package)
	}
}

// failPackage shows what unfinished tests said: a package can fail outside of its
// tests, when it does not build, panics or leaks. That counts as one failure.
func (s *summary) failPackage(name string) {
	for key, text := range s.output {
		if strings.HasPrefix(key, name+" ") {
			_, _ = io.WriteString(s.out, text.String())
			delete(s.output, key)
		}
	}
	_, _ = io.WriteString(s.out, s.shuffle[name])
	if !s.broken[name] {
		s.failed++
	}
}

func (s *summary) takeTest(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		if s.output[key] == nil {
			s.output[key] = &strings.Builder{}
		}
		s.output[key].WriteString(e.Output)
		return
	case "pass":
		s.passed++
	case "skip":
		s.skipped++
	case "fail":
		s.failed++
		s.broken[e.Package] = true
		if text := s.output[key]; text != nil {
			_, _ = io.WriteString(s.out, text.String())
		}
	default:
		return
	}
	delete(s.output, key)
}

// count is the line that says it all.
func (s *summary) count() string {
	line := fmt.Sprintf("%d passed, %d failed", s.passed, s.failed)
	if s.skipped > 0 {
		line += fmt.Sprintf(", %d skipped", s.skipped)
	}
	return line
}

// ok says whether tests ran and none failed.
func (s *summary) ok() bool { return s.failed == 0 && s.passed > 0 }
