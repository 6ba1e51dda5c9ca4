//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	scale  = factor(os.Getenv("ROLLCALL_FAILPOINT_SCALE"))
	points = open(os.Getenv("ROLLCALL_FAILPOINT"), os.Getenv("ROLLCALL_FAILPOINT_LOG"))
)

// counter counts the hits of each name.
type counter struct {
	deadly string
	log    *os.File

	mu   sync.Mutex
	seen map[string]int
}

// open makes the counter; nil when the environment asks for nothing.
func open(deadly, log string) *counter {
	if deadly == "" && log == "" {
		return nil
	}
	c := &counter{deadly: deadly, seen: map[string]int{}}
	if log != "" {
		var err error
		if c.log, err = os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			panic(err)
		}
	}
	return c
}

func factor(text string) float64 {
	if text == "" {
		return 1
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f <= 0 {
		panic("ROLLCALL_FAILPOINT_SCALE: " + text)
	}
	return f
}

// Hit counts a moment, before or after, of a step on a subject or a route, and does
// not return where the process is to be killed.
func Hit(moment, step, on string) {
	if points == nil {
		return
	}
	points.mu.Lock()
	defer points.mu.Unlock()
	name := moment + " " + step + " " + class(on)
	points.seen[name]++
	point := fmt.Sprintf("%s #%d", name, points.seen[name])
	if points.log != nil {
		fmt.Fprintln(points.log, point)
	}
	if point == points.deadly {
		kill()
	}
}

// kill ends the process as kill -9 does; all others wait for the lock meanwhile.
func kill() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}

// class is a subject without the ids in it.
func class(subject string) string {
	var kept []string
	for token := range strings.SplitSeq(subject, ".") {
		if !isID(token) {
			kept = append(kept, token)
		}
	}
	return strings.Join(kept, ".")
}

// isID says whether a token is a number, or the hexadecimal form of an id or hash.
func isID(token string) bool {
	digits := strings.Trim(token, "0123456789") == ""
	return digits || len(token) >= 12 && strings.Trim(token, "0123456789abcdef") == ""
}

// Scale shrinks, or stretches, a duration that somebody waits for after a crash.
func Scale(d time.Duration) time.Duration { return time.Duration(float64(d) * scale) }
