package pool

import (
	"math"
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
	want := Options{
		MinConns: 2, MaxConns: 10, ScaleUpAt: 0.8, ScaleDownAt: 0.3, MaxWaiters: 256, MaxLifetime: 30 * time.Minute,
		KeepAlive: KeepAlive{Interval: 30 * time.Second, StaleAfter: time.Minute, PingTimeout: 2 * time.Second, IdleShutdown: 10 * time.Minute},
	}
	if got := (Options{}).withDefaults(); got != want || got.Validate() != nil {
		t.Errorf("%+v: %v", got, got.Validate())
	}
	for _, test := range []struct {
		given    Options
		min, max int
	}{
		{Options{MaxConns: 1}, 1, 1},
		{Options{MaxConns: 5}, 2, 5},
		{Options{MinConns: 20}, 20, 20},
		{Options{MinConns: 3}, 3, 10},
	} {
		if got := test.given.withDefaults(); got.MinConns != test.min || got.MaxConns != test.max || got.Validate() != nil {
			t.Errorf("%+v: %v", got, got.Validate())
		}
	}
	slow := Options{KeepAlive: KeepAlive{Interval: time.Minute}}.withDefaults()
	if slow.KeepAlive.StaleAfter != 2*time.Minute || slow.Validate() != nil {
		t.Errorf("%+v: %v", slow, slow.Validate())
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for want, o := range map[string]Options{
		"pool option MinConns is -1, must be at least 1":                               {MinConns: -1},
		"pool option MaxConns is -1, must be at least MinConns (2)":                    {MaxConns: -1},
		"pool option MaxConns is 2, must be at least MinConns (3)":                     {MinConns: 3, MaxConns: 2},
		"pool option ScaleUpAt is 1.5, must be over 0 and at most 1":                   {ScaleUpAt: 1.5},
		"pool option ScaleUpAt is NaN, must be over 0 and at most 1":                   {ScaleUpAt: math.NaN()},
		"pool option ScaleDownAt is 0.9, must be over 0 and less than ScaleUpAt (0.8)": {ScaleDownAt: 0.9},
		"pool option MaxWaiters is -1, must be at least 1":                             {MaxWaiters: -1},
		"pool option MaxLifetime is -1s, must be positive":                             {MaxLifetime: -time.Second},
		"pool option KeepAlive.Interval is 1s, must be at least 5s":                    {KeepAlive: KeepAlive{Interval: time.Second}},
		"pool option KeepAlive.StaleAfter is 30s, must be more than Interval (30s)":    {KeepAlive: KeepAlive{StaleAfter: 30 * time.Second}},
		"pool option KeepAlive.PingTimeout is 6s, must be positive and at most 5s":     {KeepAlive: KeepAlive{PingTimeout: 6 * time.Second}},
		"pool option KeepAlive.IdleShutdown is -1s, must be positive":                  {KeepAlive: KeepAlive{IdleShutdown: -time.Second}},
	} {
		if err := o.Validate(); err == nil || err.Error() != want {
			t.Errorf("%v, not %s", err, want)
		}
	}
}
