package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/store"
)

// DeadLetters calls each for the selected dead letters of the edge, oldest
// first; [store.ErrEnough] from it ends the answer without an error. progress is
// told a few times a second what the edge has read.
func (c *Client) DeadLetters(ctx context.Context, sel queue.Selection, progress store.Progress, each func(*queue.Buried) error) error {
	return eachLineWith(ctx, c, http.MethodGet, deadLettersPath, selectionQuery(sel), progress, each)
}

// DropDeadLetters removes the selected dead letters and returns how many went;
// progress may be nil.
func (c *Client) DropDeadLetters(ctx context.Context, sel queue.Selection, progress func(dropped int) error) (int, error) {
	dropped := 0
	err := eachLine(ctx, c, http.MethodDelete, deadLettersPath, selectionQuery(sel), func(n *int) error {
		dropped = *n
		if progress == nil {
			return nil
		}
		return progress(dropped)
	})
	return dropped, err
}

// RetryDeadLetters asks the edge to send the selected dead letters again; see
// [Engine.RetryDeadLetters].
func (c *Client) RetryDeadLetters(ctx context.Context, sel queue.Selection, progress func(Retried) error) (Retried, error) {
	var last Retried
	err := eachLine(ctx, c, http.MethodPost, retryPath, selectionQuery(sel), func(r *Retried) error {
		last = *r
		return progress(last)
	})
	return last, err
}

// Messages calls each for the messages that wait, most urgent first.
func (c *Client) Messages(ctx context.Context, filter queue.MessageFilter, each func(*queue.Waiting) error) error {
	return eachLine(ctx, c, http.MethodGet, messagesPath, filterQuery(filter), each)
}

// QueueStats sums up the messages that wait.
func (c *Client) QueueStats(ctx context.Context, filter queue.MessageFilter) (s queue.Stats, err error) {
	return s, c.ask(ctx, queuePath+"?"+filterQuery(filter).Encode(), &s)
}

// filterQuery writes a filter as the query of a URL.
func filterQuery(f queue.MessageFilter) url.Values {
	return url.Values{"id": f.IDs, "priority": {f.Priority}, "topic": {f.Topic}, "limit": {strconv.Itoa(f.Limit)}}
}

// eachLine asks for an answer of lines and calls each for every item.
func eachLine[T any](ctx context.Context, c *Client, method, path string, q url.Values, each func(*T) error) error {
	return eachLineWith(ctx, c, method, path, q, nil, each)
}

// eachLineWith is eachLine that asks for the progress too, unless that is nil.
func eachLineWith[T any](ctx context.Context, c *Client, method, path string, q url.Values, progress store.Progress, each func(*T) error) error {
	if progress != nil {
		q.Set(progressParameter, "1")
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://edge"+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the edge: %w", err)
	}
	defer resp.Body.Close() // what was wanted of it has been read
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	lines := json.NewDecoder(bufio.NewReader(resp.Body))
	for {
		var line controlLine
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF):
			return errors.New("asking the edge: its answer ends too early; it may have stopped")
		case err != nil:
			return fmt.Errorf("asking the edge: %w", err)
		case line.End:
			return nil
		case line.Error != "":
			return fmt.Errorf("asking the edge: %s", line.Error)
		case line.Progress != nil:
			if progress != nil {
				progress(line.Progress[0], line.Progress[1])
			}
			continue
		}
		item := new(T)
		if err := json.Unmarshal(line.Item, item); err != nil {
			return fmt.Errorf("asking the edge: %w", err)
		}
		if err := each(item); errors.Is(err, store.ErrEnough) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// refusal is the error of an answer that is none; one from an edge of another
// version says so.
func refusal(resp *http.Response) error {
	var reply struct{ Error string }
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil || reply.Error == "" {
		reply.Error = resp.Status
	}
	if resp.StatusCode == http.StatusNotFound {
		reply.Error = "the edge that runs is of a version that does not know this; restart it with this one"
	}
	return fmt.Errorf("asking the edge: %s", reply.Error)
}
