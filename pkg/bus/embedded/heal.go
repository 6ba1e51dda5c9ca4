package embedded

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// A stream of the server (2.15.2) that failed to write once, because the disk was full,
// gives no answer to any further write until the server starts anew, also when there is
// room again. What it had stored is read as before. So the server is started anew here as
// soon as there is room, on the same port and with the same key: clients come back by
// themselves. (To start only JetStream anew within the server is a data race in it.)

const (
	// healInterval is how often a full disk is looked at, and the least time between two
	// starts.
	healInterval = time.Second
	// enoughRoom is what has to fit on the disk before it is tried.
	enoughRoom = 1 << 20
)

// failedWrite says whether a line of the server's log means that a store has failed.
func failedWrite(line string) bool {
	return strings.Contains(line, "critical write error") || strings.Contains(line, "Critical write error") || strings.Contains(line, "no space left")
}

// writeFailed notes that a store has failed.
func (s *Server) writeFailed() {
	select {
	case s.failed <- struct{}{}:
	default: // it is known
	}
}

// heal starts the server anew whenever a store has failed and there is room again.
func (s *Server) heal() {
	for {
		select {
		case <-s.closed:
			return
		case <-s.failed:
		}
		err := s.room()
		if err == nil {
			err = errors.New("a store has failed, see the lines before")
		}
		s.log.Error("NATS refuses writes: no space", "error", err,
			"hint", "make room on the disk of nats.data_dir; nothing is lost, and Rollcall goes on by itself")
		for again := true; again; again = err != nil {
			select {
			case <-s.closed:
				return
			case <-time.After(healInterval):
			}
			if err = s.room(); err == nil {
				err = s.restart()
			}
		}
		s.log.Info("NATS accepts writes again: there is room on the disk")
	}
}

// room says why there is none.
func (s *Server) room() error {
	f, err := os.CreateTemp(s.cfg.DataDir, ".rollcall-room-")
	if err != nil {
		return fmt.Errorf("write to nats.data_dir: %w", err)
	}
	_, err = f.Write(make([]byte, enoughRoom))
	if err = errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("write to nats.data_dir: %w", err)
	}
	return nil
}

// restart starts the server anew. Failures that were noted before it are over.
func (s *Server) restart() error {
	s.shutdown()
	select {
	case <-s.failed:
	default:
	}
	return s.serve()
}
