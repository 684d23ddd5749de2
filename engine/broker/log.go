package broker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// serverLog carries the server's lines into slog. Its notices are details to
// an operator of an edge and become debug lines.
type serverLog struct {
	log      *slog.Logger
	troubled chan struct{} // gets a value when there was an error and none is in it
	mu       sync.Mutex
	err      error
}

func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{log: log, troubled: make(chan struct{}, 1)}
}

var _ server.Logger = (*serverLog)(nil)

func (l *serverLog) line(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, v...))
	}
}

func (l *serverLog) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.line(slog.LevelWarn, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.line(slog.LevelDebug-4, format, v) }

// Errorf reports an error, but for a hub that cannot be reached: being offline
// is a normal state, and the monitor of the connection tells of it once.
func (l *serverLog) Errorf(format string, v ...any) {
	level := slog.LevelError
	if strings.HasPrefix(format, "Error trying to connect as leafnode") {
		level = slog.LevelDebug
	} else {
		select {
		case l.troubled <- struct{}{}:
		default:
		}
	}
	l.line(level, format, v)
}

// Fatalf keeps the first fatal line: it is the only way the server tells why it
// did not start.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	if l.err == nil {
		l.err = fmt.Errorf(format, v...)
	}
	l.mu.Unlock()
	l.line(slog.LevelError, format, v)
}

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
