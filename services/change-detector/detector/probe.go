package detector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// Survey is what a look at a source found.
type Survey struct {
	// Server says in one line which server answers, as whom, and how changes are found.
	Server string
	Found  Found
	// Doubts say what could not be checked, and what that costs.
	Doubts []string
}

// Probe connects to a source's directory, reads its bases, checks that every attribute
// that the configuration names is known to its schema, and reads the source whole, to
// count what is in scope. Nothing is stored or published. Its error names the key and
// the remedy.
func Probe(ctx context.Context, cfg *connection.Config, source string) (Survey, error) {
	d, err := newDetector(cfg, source, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return Survey{}, err
	}
	directory, err := open(cfg, source, cfg.AttributeSet(source), d.log)
	if err != nil {
		return Survey{}, err
	}
	server, err := directory.Probe(ctx)
	if err != nil {
		return Survey{}, err
	}
	s := Survey{Server: fmt.Sprintf("%s at %s, as %s, mode %s (%s)", server.Vendor, server.URL, server.Identity, server.Mode, server.Reason)}
	switch err := directory.CheckAttributes(ctx); {
	case errors.Is(err, ldapsource.ErrUnknownAttribute):
		return s, err
	case err != nil:
		s.Doubts = append(s.Doubts, fmt.Sprintf("the attribute names are not checked, and filters are evaluated by the well-known attributes: %v", err))
	}
	sink := &survey{mirror: newMirror(d.rules), detector: d}
	if err := directory.Watch(ctx, sink); !errors.Is(err, errSurveyed) {
		return s, err
	}
	s.Found = sink.result
	return s, nil
}

// errSurveyed ends the session of a survey.
var errSurveyed = errors.New("surveyed")

// survey is a sink that counts what one full read brings, and ends then.
type survey struct {
	*mirror

	detector *detector
	result   Found
}

var _ ldapsource.Sink = (*survey)(nil)

// Complete ends the full read.
func (s *survey) Complete(ldapsource.Proof) { s.mirror.Complete() }

// Settled counts.
func (s *survey) Settled(context.Context) error {
	scope := s.closures()
	s.result = s.detector.found(s.mirror, &scope)
	return errSurveyed
}

// Wake never delivers: there is nothing to do besides the read.
func (s *survey) Wake() <-chan struct{} { return nil }
