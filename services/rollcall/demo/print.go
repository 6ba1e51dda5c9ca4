package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
)

// printer writes for people, in colours and with a line that moves on a terminal.
type printer struct {
	out      io.Writer
	terminal bool
	colours  bool
	moving   bool      // the cursor is behind a line that may be overwritten
	said     time.Time // when progress was last a line of its own
}

func newPrinter(out io.Writer) *printer {
	p := &printer{out: out}
	if file, is := out.(*os.File); is {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	p.colours = p.terminal && os.Getenv("NO_COLOR") == ""
	return p
}

// line writes one line; nobody to read it is no fault.
func (p *printer) line(format string, args ...any) {
	p.wipe()
	_, _ = fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *printer) wipe() {
	if p.moving {
		_, _ = io.WriteString(p.out, "\r\x1b[K")
	}
	p.moving = false
}

// status is what happens now: overwritten on a terminal.
func (p *printer) status(format string, args ...any) {
	if !p.terminal {
		p.line(format, args...)
		return
	}
	p.wipe()
	_, _ = fmt.Fprintf(p.out, format, args...)
	p.moving = true
}

const progressLines = 2 * time.Second // between two, where there is no terminal

func (p *printer) progress(format string, args ...any) {
	if p.terminal || time.Since(p.said) >= progressLines {
		p.said = time.Now()
		p.status(format, args...)
	}
}

const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	green = "\x1b[32m"
	red   = "\x1b[31m"
	plain = "\x1b[0m"
)

func (p *printer) colour(code, text string) string {
	if !p.colours {
		return text
	}
	return code + text + plain
}

func (p *printer) strong(text string) { p.line("%s", p.colour(bold+green, text)) }

// Widths of the columns.
const (
	textWidth  = 44
	whereWidth = 32
	whatWidth  = 44
	shownLines = 4
)

// change shows one change with what reached the target.
//
//	09:25  Cleared: Grace O'Brien has no title   PATCH /Users/grace.obrien   remove title   6 ms
func (p *printer) change(c change, requests []request, began time.Time, names map[string]string) {
	head := p.colour(dim, c.at) + "  " + p.colour(bold, pad(c.text, textWidth))
	for i, r := range requests {
		if i == shownLines-1 && len(requests) > shownLines {
			rest := requests[i:]
			p.request(head, fmt.Sprintf("and %d more", len(rest)), summarise(rest), lastWrite(rest).Sub(began), false)
			return
		}
		where, what := r.describe(names)
		p.request(head, where, what, r.At.Sub(began), r.refused())
		head = strings.Repeat(" ", len(c.at)+2+textWidth)
	}
}

func (p *printer) request(head, where, what string, after time.Duration, refused bool) {
	what = pad(what, whatWidth)
	if refused {
		what = p.colour(red, what)
	}
	p.line("%s  %s  %s  %s", head, pad(where, whereWidth), what, p.colour(green, fmt.Sprintf("%7s", millis(after))))
}

// live shows requests as they arrive.
func (p *printer) live(requests []request, names map[string]string) {
	for _, r := range requests {
		where, what := r.describe(names)
		p.line("%s  %s  %s", p.colour(dim, r.At.Local().Format("15:04:05.000")), pad(where, whereWidth), what)
	}
}

// invitation says what there is to look at and to try.
func (p *printer) invitation(s *stage) {
	p.line("")
	p.line("Everything runs on until Ctrl-C.")
	p.line("  target, live   %s/", s.traffic.page)
	p.line("  metrics        %s", s.metrics)
	p.line("  console        %s", s.console)
	p.line("  directory      %s  as %s, password %s", s.directory.URL, s.directory.AdminDN, s.directory.AdminPassword)
	p.line("  status         %s -c %s status", filepath.Join(s.dir, "bin", "rollcall"), filepath.Join(s.dir, "rollcall.yaml"))
	p.line("  logs           %s", s.rollcall.log)
	p.line("")
	p.line("Change something:")
	p.line("")
	p.line("%s", s.example())
	p.line("What reaches the target:")
}

// example is a command to paste into a shell.
func (s *stage) example() string {
	command := "ldapmodify"
	if s.openldap != "" {
		library, _ := filepath.Glob(filepath.Join(s.openldap, "usr", "lib", "*-linux-*")) // the pattern is right
		command = "LD_LIBRARY_PATH=" + strings.Join(library, ":") + " \\\n" + filepath.Join(s.openldap, "usr", "bin", "ldapmodify")
	}
	return fmt.Sprintf("%s -x -H %s -D %s -w %s <<'EOF'\n", command, s.directory.URL, s.directory.AdminDN, s.directory.AdminPassword) +
		"dn: uid=grace.obrien,ou=people," + suffix + "\nchangetype: modify\nreplace: title\ntitle: Astronaut\nEOF\n"
}

// pad fills a text up to a width, or cuts it.
func pad(text string, width int) string {
	for cells(text) > width {
		runes := []rune(strings.TrimSuffix(text, "…"))
		text = string(runes[:len(runes)-1]) + "…"
	}
	return text + strings.Repeat(" ", width-cells(text))
}

// cells is how wide a terminal shows a text: East Asian letters and pictures take
// two cells, combining marks none.
func cells(text string) (n int) {
	for _, r := range text {
		switch {
		case unicode.Is(unicode.Mn, r):
		case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana) || r >= 0x1F300:
			n += 2
		default:
			n++
		}
	}
	return n
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}
