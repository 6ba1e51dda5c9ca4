//go:build cluster

package cluster

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// withClock are the programs with a wall clock that a test moves. Nothing that is loaded
// before a Go program, such as libfaketime, can do that, because such a program asks the
// kernel itself. So its standard library is replaced when it is built: time.Now adds
// what stands in the file that the environment names. The monotonic clock is as it is.
var withClock = &programs{prepare: overlay}

// clockFile is the variable of the environment that names the file.
const clockFile = "CHAOS_CLOCK"

// clockSource is what package time gets in addition. The file is mapped, so that a
// change is seen at once.
const clockSource = `package time

import "syscall"

var chaosClock = func() []byte {
	name, _ := syscall.Getenv("` + clockFile + `")
	if name == "" {
		return nil
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		panic("open " + name + ": " + err.Error())
	}
	page, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("map " + name + ": " + err.Error())
	}
	return page
}()

// chaosOffset is what the wall clock is ahead, in seconds.
func chaosOffset() (seconds int64) {
	for i := len(chaosClock) - 1; i >= 0; i-- {
		seconds = seconds<<8 | int64(chaosClock[i])
	}
	return seconds
}
`

// overlay writes the replacement of package time, and returns the flag that uses it.
func overlay(dir string) (in string, flags []string, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", nil, fmt.Errorf("ask for GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", nil, err
	}
	const before = "	sec, nsec, mono := runtimeNow()\n"
	const now = "func Now() Time {\n" + before
	if !strings.Contains(string(source), now) {
		return "", nil, errors.New("time.Now is not written as it was in Go 1.26: change the overlay")
	}
	changed := filepath.Join(dir, "time.go")
	added := filepath.Join(dir, "chaos_clock.go")
	text := strings.Replace(string(source), now, now+"	sec += chaosOffset()\n", 1)
	list, err := json.Marshal(map[string]map[string]string{"Replace": {
		original: changed, filepath.Join(filepath.Dir(original), "chaos_clock.go"): added,
	}})
	if err != nil {
		return "", nil, err
	}
	file := filepath.Join(dir, "overlay.json")
	return "", []string{"-overlay", file}, errors.Join(os.WriteFile(changed, []byte(text), 0o600),
		os.WriteFile(added, []byte(clockSource), 0o600), os.WriteFile(file, list, 0o600))
}

// clockOf names the file of a process's clock, beside its log. A program without such a
// clock does not read it.
func clockOf(log string) []string {
	file := log + ".clock"
	if _, err := os.Stat(file); err != nil {
		_ = setClock(log, 0) // a program that cannot read it says so
	}
	return []string{clockFile + "=" + file}
}

// setClock moves the wall clock of the process with a log so far ahead, at once.
func setClock(log string, ahead time.Duration) error {
	f, err := os.OpenFile(log+".clock", os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	var seconds [8]byte
	binary.LittleEndian.PutUint64(seconds[:], uint64(ahead/time.Second))
	_, err = f.WriteAt(seconds[:], 0)
	return errors.Join(err, f.Close())
}

// jump is how far a clock is wrong.
const jump = time.Hour

// jumpServices lets the clocks of a detector and one of each worker jump an hour ahead,
// back, an hour behind, and back.
func jumpServices(s *site) {
	logs := []string{s.watcher().log, s.of(userSync)[0].log, s.of(groupSync)[0].log}
	s.jump(logs, func(context.Context) (time.Time, error) {
		var latest time.Time
		all := logTime.FindAllStringSubmatch(tail(logs[1]), -1)
		if len(all) == 0 {
			return latest, errNotYet
		}
		return time.Parse(time.RFC3339, all[len(all)-1][1])
	})
}

// logTime is the time in a line of a service's log.
var logTime = regexp.MustCompile(`(?m)^time=(\S+) `)

// jumpServer does it with the clock of the server that leads the state of the targets.
func jumpServer(s *site) {
	s.jump([]string{s.nats.leader(s.t.Context(), "KV_targets").log}, func(ctx context.Context) (time.Time, error) {
		info, err := s.nats.info(ctx, "KV_targets")
		if err != nil {
			return time.Time{}, err
		}
		return info.TimeStamp, nil
	})
}

// jump moves clocks and shows that they moved by what one of them says. The load goes
// on, a worker starts, the target asks for a pause, and what arrives there says that
// nothing waits for a clock.
func (s *site) jump(logs []string, says func(context.Context) (time.Time, error)) {
	s.t.Helper()
	for _, ahead := range []time.Duration{jump, 0, -jump, 0} {
		for _, log := range logs {
			s.must(setClock(log, ahead))
		}
		eventually(s.t.Context(), s.t, 30*time.Second, "the clock has moved", func(ctx context.Context) error {
			said, err := says(ctx)
			if err == nil && (time.Since(said)+ahead).Abs() > jump/2 {
				err = fmt.Errorf("%w: it says %s", errNotYet, said)
			}
			return err
		})
		one := s.of(userSync)[s.r.IntN(2)] // it asks what time it is, the other one believes that it knows
		s.must(one.Stop(stopWithin))
		s.start(one)
		s.target.throttle(2 * time.Second)
		s.during(50)
		s.flows(15 * time.Second)
	}
}
