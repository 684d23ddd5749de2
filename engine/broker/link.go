package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// Compression is how a leaf connection is compressed: S2, by its server's modes.
type Compression string

// Compressions are all of them, from the one that costs nothing to the one that
// makes it smallest; Auto chooses among the others by the round trip.
var Compressions = []Compression{CompressionOff, CompressionAuto, CompressionFast, CompressionBetter, CompressionBest}

// The compressions.
const (
	CompressionOff    Compression = "off"
	CompressionAuto   Compression = "auto"
	CompressionFast   Compression = "fast"
	CompressionBetter Compression = "better"
	CompressionBest   Compression = "best"
)

// options returns what the server knows the compression by. An unknown one is an
// error here, for a running server that is told of it drops its other links.
func (c Compression) options() (server.CompressionOpts, error) {
	modes := map[Compression]string{
		"": server.CompressionS2Auto, CompressionOff: server.CompressionOff, CompressionAuto: server.CompressionS2Auto,
		CompressionFast: server.CompressionS2Fast, CompressionBetter: server.CompressionS2Better, CompressionBest: server.CompressionS2Best,
	}
	mode, ok := modes[c]
	if !ok {
		return server.CompressionOpts{}, fmt.Errorf("there is no compression %q", c)
	}
	return server.CompressionOpts{Mode: mode}, nil
}

// LinkStats is a leaf connection as its server sees it.
type LinkStats struct {
	RTT         time.Duration // 0: not measured yet
	Compression string        // in the server's words, as it is now
	Out, In     int64         // bytes of messages since it was established, before compression
}

// LinkState tells whether a link's leaf connection is established, and how it
// does. It does not block.
func (b *Broker) LinkState(link string) (up bool, stats LinkStats) {
	z, err := b.srv.Leafz(nil)
	if err != nil {
		return false, LinkStats{}
	}
	for _, l := range z.Leafs {
		if l.Account == linkAccount(link) {
			rtt, _ := time.ParseDuration(l.RTT) // absent until the first ping
			return true, LinkStats{RTT: rtt, Compression: l.Compression, Out: l.OutBytes, In: l.InBytes}
		}
	}
	return false, LinkStats{}
}

// Redial drops the leaf connection of a link, if there is one, and dials anew.
// Servers in the field have been seen not to come back on their own.
func (b *Broker) Redial(link string) error {
	b.reload.Lock()
	defer b.reload.Unlock()
	for _, disabled := range []map[string]bool{{link: true}, nil} {
		if err := b.setOptions(b.opts.Links, disabled); err != nil {
			return fmt.Errorf("redialing %s: %w", link, err)
		}
	}
	return nil
}

// CheckLinks says why [Broker.SetLinks] would not take links as they are written,
// with the files that they name.
func (b *Broker) CheckLinks(links []Link) error {
	b.reload.Lock()
	defer b.reload.Unlock()
	_, err := b.serverOptions(links, nil)
	return err
}

// SetLinks replaces the links. One that has changed is dropped and dialed anew; one
// that is as before stays up, and shows the certificates that its files hold now when
// it is dialed next. The account of one that is gone stays for as long as the broker
// runs, with nothing behind it: connections to it may still be open.
//
// The server does not drop a link while it dials it, so that SetLinks may block for
// as long as a dial takes, or until ctx ends. After an error the links are as before.
func (b *Broker) SetLinks(ctx context.Context, links []Link) error {
	b.reload.Lock()
	defer b.reload.Unlock()
	was := b.opts.Links
	if err := b.nameUsers(links); err != nil {
		return fmt.Errorf("changing links: %w", err)
	}
	if _, err := b.serverOptions(links, nil); err != nil {
		return fmt.Errorf("changing links: %w", err)
	}
	if err := b.setLinks(ctx, was, links); err != nil {
		return errors.Join(fmt.Errorf("changing links: %w", err), b.setOptionsSoon(context.WithoutCancel(ctx), was))
	}
	b.opts.Links = links
	return nil
}

// setLinks takes the server from was to links. The server knows a link by its URLs,
// account and credentials alone, and takes no new certificate for one that is up:
// what has changed is dropped first. That also makes the accounts of new ones, which
// must be there before they are dialed.
func (b *Broker) setLinks(ctx context.Context, was, links []Link) error {
	stay := slices.DeleteFunc(slices.Clone(was), func(l Link) bool { return !slices.ContainsFunc(links, l.equal) })
	for _, step := range [][]Link{stay, links} {
		if err := b.setOptionsSoon(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

func (l Link) equal(o Link) bool {
	return l.Name == o.Name && slices.Equal(l.URLs, o.URLs) && l.Credentials == o.Credentials && l.TLS == o.TLS && l.Compression == o.Compression
}

// setOptionsSoon is setOptions, again until the server can: it refuses a link that it
// was told to drop and is still dialing, and says so.
func (b *Broker) setOptionsSoon(ctx context.Context, links []Link) error {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	for {
		err := b.setOptions(links, nil)
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "try again") {
			return err
		}
		b.opts.Logger.Debug("the server does not take other links yet", "error", err)
		select {
		case <-time.After(dialTimeout / 100):
		case <-ctx.Done():
		}
	}
}

// setOptions gives the running server other links.
func (b *Broker) setOptions(links []Link, disabled map[string]bool) error {
	o, err := b.serverOptions(links, disabled)
	if err != nil {
		return err
	}
	return b.srv.ReloadOptions(o)
}

// nameUsers makes the in-process users of links that have none.
func (b *Broker) nameUsers(links []Link) error {
	for _, l := range links {
		if b.links[l.Name] != nil {
			continue
		}
		user, err := nkeys.CreateUser()
		if err != nil {
			return err
		}
		b.links[l.Name] = user
	}
	return nil
}
