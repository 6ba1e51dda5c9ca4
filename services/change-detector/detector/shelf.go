package detector

import (
	"strings"
	"unsafe"
)

// shelf is where many small things lie that come at once and mostly stay. To the
// collector, which looks at every piece of memory, each board is one piece; it is
// freed when nothing on it is used any more. What is on it must not change its place
// often: at worst it is all kept for as long as one thing of each board is.
type shelf[T any] struct{ board []T }

// boardSize is how many bytes lie on a board.
const boardSize = 16 << 10

// put lays a thing down.
func (s *shelf[T]) put(thing T) *T {
	if len(s.board) == cap(s.board) {
		s.board = make([]T, 0, boardSize/unsafe.Sizeof(thing))
	}
	s.board = append(s.board, thing)
	return &s.board[len(s.board)-1]
}

// textShelf is a shelf of texts.
type textShelf struct{ board strings.Builder }

// put lays two texts down, one behind the other.
func (s *textShelf) put(a, b string) (string, string) {
	n := len(a) + len(b)
	if s.board.Cap()-s.board.Len() < n {
		s.board.Reset()
		s.board.Grow(max(boardSize, n))
	}
	from := s.board.Len()
	s.board.WriteString(a)
	s.board.WriteString(b)
	both := s.board.String()[from:]
	return both[:len(a)], both[len(a):]
}
