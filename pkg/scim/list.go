package scim

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxListed bounds a listing: a target that claims more is not believed.
const maxListed = 5_000_000

// ListOptions says what a listing returns.
type ListOptions struct {
	Attributes         []string // these alone; not together with ExcludedAttributes
	ExcludedAttributes []string
	PageSize           int // the profile's when 0
}

// Find looks resources up by the value of an attribute. The answer is compared
// again here, because targets ignore filters or read them their own way. A target
// that distinguishes case can be asked for other spellings, one after the other,
// until one matches. More than one resource is returned as it is: which one is
// right is the caller's question. ErrIncomplete means that nothing may be
// concluded.
func (c *Client) Find(ctx context.Context, kind Kind, attribute, value string, spellings ...string) ([]*Resource, error) {
	p, err := lookUpPath(attribute, value)
	if err != nil {
		return nil, err
	}
	values := append([]string{value}, spellings...)
	if !c.Profile().Filter {
		found, err := c.findUnfiltered(ctx, kind, p, values)
		if !is(err, TooMany, Rejected, Unsupported, Incomplete) { // otherwise a filter is all that is left
			return found, err
		}
	}
	if c.Profile().CaseSensitive && p.String() == "userName" {
		values = append(values, strings.ToLower(value))
	}
	for i, spelling := range values {
		if spelling == "" || slices.Contains(values[:i], spelling) {
			continue
		}
		found, err := c.find(ctx, kind, p, spelling, values)
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
	return nil, nil
}

// maxOthers is how many resources that a filter does not name may be in its answer
// before the target counts as one that ignores filters: some compare a part of a value,
// or another attribute, and return a few.
const maxOthers = 10

func (c *Client) find(ctx context.Context, kind Kind, p Path, value string, values []string) ([]*Resource, error) {
	var found []*Resource
	l := c.listing(kind, ListOptions{})
	l.req.query.Set("filter", filterEqual(c.Profile().lookedUpBy(p), value))
	if kind == KindGroup {
		l.req.query.Set("excludedAttributes", "members")
	}
	others := 0
	_, err := l.run(ctx, func(r *Resource) error {
		switch {
		case r.matches(p, values):
			found = append(found, r)
		case others == maxOthers:
			c.ignoresFilters()
			fallthrough
		default:
			others++
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look a %s up by %s: %w", kind, p, err)
	}
	return found, nil
}

// List reads all resources of a kind, page by page, each once. It returns
// ErrIncomplete when the target's pages do not add up to what it says it has, or
// when that changed on the way: then absence proves nothing.
func (c *Client) List(ctx context.Context, kind Kind, opts ListOptions, each func(*Resource) error) (total int, err error) {
	total, err = c.listing(kind, opts).run(ctx, each)
	if err != nil {
		return total, fmt.Errorf("list %ss: %w", kind, err)
	}
	return total, nil
}

// listing is one walk over the pages.
type listing struct {
	client   *Client
	req      *request
	size     int
	cursor   bool // the target lists by cursor
	seen     map[string]struct{}
	cursors  map[string]struct{} // that were followed
	barren   int                 // pages in a row that brought nothing new
	again    int                 // pages that were read before a restart, and bring nothing new
	restarts int
}

// total is how many resources a target says it has.
type total struct {
	number int
	said   bool
}

func (c *Client) listing(kind Kind, opts ListOptions) *listing {
	req := c.collection(http.MethodGet, kind)
	setList(req.query, "attributes", opts.Attributes)
	setList(req.query, "excludedAttributes", opts.ExcludedAttributes)
	size := opts.PageSize
	if size <= 0 {
		size = c.Profile().PageSize
	}
	return &listing{
		client: c, req: req, size: size, cursor: c.Profile().Cursor,
		seen: map[string]struct{}{}, cursors: map[string]struct{}{},
	}
}

// run reads pages until all that the target claims to have was seen. What targets
// echo as startIndex and itemsPerPage is wrong too often to count. A target that
// gives a cursor is followed, asked for or not (RFC 9865); such a target need not say
// how much it has, and the page without a cursor is its last one. A target that gives
// neither proves its end by an empty page.
func (l *listing) run(ctx context.Context, each func(*Resource) error) (int, error) {
	var claimed total
	for start := 1; ; {
		first := start == 1 && len(l.cursors) == 0
		p, err := l.page(ctx, start)
		if Classify(err) == BadCursor && l.restart() {
			start = 1
			continue
		}
		if err != nil {
			return claimed.number, err
		}
		if first {
			claimed = p.total
		}
		if err := agreeing(claimed, p.total); err != nil {
			return p.total.number, err
		}
		fresh, err := l.deliver(p.resources, each)
		if err != nil {
			return claimed.number, err
		}
		start += len(p.resources)
		last, err := l.last(p, fresh, start, claimed)
		switch {
		case err != nil:
			return len(l.seen), err
		case last:
			return len(l.seen), l.complete(claimed)
		}
	}
}

// agreeing says whether a page claims what the first one did.
func agreeing(first, now total) error {
	switch {
	case now.number > maxListed:
		return fmt.Errorf("%w: the target claims %d resources", ErrIncomplete, now.number)
	case now.said && first.said && now.number != first.number:
		return fmt.Errorf("%w: the target had %d resources at first and %d later", ErrIncomplete, first.number, now.number)
	}
	return nil
}

// maxBarren is how many pages in a row may bring nothing new: a target that filters
// page by page has empty ones.
const maxBarren = 20

// last says whether a page was the last one. Otherwise it has the cursor of the next
// one asked for. Without cursors every page must bring something new, so that a
// listing ends whatever the target answers.
func (l *listing) last(p page, fresh, start int, claimed total) (bool, error) {
	switch {
	case p.next != "":
		return false, l.follow(p.next, fresh)
	case l.cursor && !claimed.said, len(l.cursors) > 0:
		return true, nil
	case claimed.said:
		return start > claimed.number || fresh == 0, nil
	case len(p.resources) == 0:
		return true, nil
	case fresh == 0:
		return false, fmt.Errorf("%w: the target does not say how many resources it has, and repeats them; if it pages by cursor, set target.overrides.cursor", ErrIncomplete)
	default:
		return false, nil
	}
}

// follow asks for the page behind a cursor.
func (l *listing) follow(cursor string, fresh int) error {
	if l.barren++; fresh > 0 {
		l.barren = 0
	}
	if _, repeated := l.cursors[cursor]; repeated || l.barren > maxBarren+l.again {
		return fmt.Errorf("%w: the target's cursors lead nowhere", ErrIncomplete)
	}
	l.cursors[cursor] = struct{}{}
	l.req.query.Set("cursor", cursor)
	return nil
}

// restart begins anew, once, after a cursor that has expired; what was seen is not
// delivered again.
func (l *listing) restart() bool {
	l.restarts++
	l.again, l.barren = len(l.cursors), 0
	l.cursors = map[string]struct{}{}
	l.req.query.Del("cursor")
	return l.restarts == 1
}

func (l *listing) deliver(resources []map[string]any, each func(*Resource) error) (fresh int, err error) {
	for _, attributes := range resources {
		r, err := newResource(attributes)
		if err != nil || r.ID == "" {
			return fresh, fmt.Errorf("%w: a resource without id", ErrIncomplete)
		}
		if _, repeated := l.seen[r.ID]; repeated {
			continue
		}
		l.seen[r.ID] = struct{}{}
		fresh++
		if err := each(r); err != nil {
			return fresh, err
		}
	}
	return fresh, nil
}

func (l *listing) complete(claimed total) error {
	if claimed.said && len(l.seen) != claimed.number {
		return fmt.Errorf("%w: the target says it has %d resources and returned %d", ErrIncomplete, claimed.number, len(l.seen))
	}
	return nil
}

type page struct {
	total     total
	next      string // cursor of the next page
	resources []map[string]any
}

func (l *listing) page(ctx context.Context, start int) (page, error) {
	l.req.query.Set("count", strconv.Itoa(l.size))
	switch {
	case len(l.cursors) > 0: // it is in the query
		l.req.query.Del("startIndex")
	case l.cursor && start == 1 && !l.req.query.Has("filter"):
		l.req.query.Set("cursor", "")
	default:
		l.req.query.Del("cursor")
		l.req.query.Set("startIndex", strconv.Itoa(start))
	}
	resp, err := l.client.do(ctx, l.req)
	if err != nil {
		return page{}, err
	}
	var answer struct {
		TotalResults *json.Number     `json:"totalResults"`
		NextCursor   string           `json:"nextCursor"`
		Resources    []map[string]any `json:"Resources"`
	}
	if err := decodeJSON(resp.body, &answer); err != nil {
		return page{}, l.req.failed(resp, err)
	}
	p := page{next: answer.NextCursor, resources: answer.Resources}
	if answer.TotalResults == nil {
		return p, nil
	}
	p.total.said = true
	if p.total.number, err = strconv.Atoi(answer.TotalResults.String()); err != nil || p.total.number < 0 {
		return page{}, l.req.failed(resp, fmt.Errorf("%w: totalResults is %q", ErrIncomplete, clip(answer.TotalResults.String(), 20)))
	}
	return p, nil
}
