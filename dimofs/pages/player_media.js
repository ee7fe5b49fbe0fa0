// What shows the frames: `shown(frame)` is called when one is on the screen.

class Film {
  constructor(video, shown) {
    Object.assign(this, { video, shown });
    // The frame to go to next, while the video goes to another.
    this.goal = null;
    const told = "requestVideoFrameCallback" in video;
    // What the video calls the time of the first frame: it is not 0 in all files. Ours begin at 0.
    this.origin = about.address && told ? null : 0;
    const listen = () => video.requestVideoFrameCallback((_, { mediaTime }) => {
      this.at(mediaTime);
      listen();
    });
    const follow = () => {
      if (!video.paused) this.at(video.currentTime);
      requestAnimationFrame(follow);
    };
    if (told) listen();
    else follow();
    video.onseeked = () => {
      if (this.goal !== null) this.go(this.goal);
      else if (!told) this.at(video.currentTime);
    };
  }
  get playing() { return !this.video.paused && !this.video.ended; }
  play(speed) {
    this.video.playbackRate = speed;
    this.video.play().catch(complain);
  }
  pause() { this.video.pause(); }
  speed(value) { this.video.playbackRate = value; }
  go(frame) {
    this.goal = this.video.seeking || this.origin === null ? frame : null;
    if (this.goal === null) this.video.currentTime = this.origin + within(frame);
  }
  /** The frame of this time is on the screen. */
  at(time) {
    if (this.origin === null) {
      this.origin = time;
      // The results may begin later than the video, and end earlier.
      this.go(this.goal ?? 0);
    } else {
      if (time - this.origin >= about.seconds) this.pause();
      this.shown(frameAt(time - this.origin));
    }
  }
}

/** Shows images one by one, or nothing, by its own clock. */
class Slides {
  constructor(image, sources, shown) {
    Object.assign(this, { image, sources, shown, playing: false, at: 0, rate: 1 });
    this.go(0);
  }
  play(speed) {
    Object.assign(this, { playing: true, rate: speed });
    let time = this.at === last ? 0 : times[this.at], before = performance.now();
    const turn = (now) => {
      if (!this.playing) return;
      time += ((now - before) / 1000) * this.rate;
      before = now;
      if (time >= about.seconds) this.playing = false;
      this.go(frameAt(time));
      requestAnimationFrame(turn);
    };
    requestAnimationFrame(turn);
  }
  pause() { this.playing = false; }
  speed(value) { this.rate = value; }
  go(frame) {
    const source = this.sources?.(frame);
    if (source && (frame !== this.at || !this.image.src)) {
      this.image.onload = () => {
        setShape(this.image.naturalWidth / this.image.naturalHeight);
        this.shown(frame);
      };
      this.image.onerror = () => {
        complain(`This browser does not show ${source.slice(0, 200)}`);
        this.shown(frame);
      };
      this.image.src = source;
    } else this.shown(frame);
    this.at = frame;
  }
}
