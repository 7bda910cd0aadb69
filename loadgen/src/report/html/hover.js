(function () {
  "use strict";
  var tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.appendChild(tip);

  function say(lines) {
    tip.textContent = "";
    lines.forEach(function (line) {
      var row = document.createElement("div");
      row.textContent = line;
      tip.appendChild(row);
    });
  }

  function figure(value) {
    return value.toLocaleString("en", { maximumFractionDigits: 2 });
  }

  function follow(plot) {
    var read = JSON.parse(plot.getAttribute("data-read"));
    var columns = read.values.reduce(function (most, list) { return Math.max(most, list.length); }, 0);
    var cursor = document.createElement("div");
    cursor.className = "cursor";
    cursor.hidden = true;
    plot.appendChild(cursor);

    function leave() {
      tip.hidden = true;
      cursor.hidden = true;
    }

    function move(event) {
      var box = plot.getBoundingClientRect();
      var column = Math.floor((event.clientX - box.left) / box.width * columns);
      column = Math.max(0, Math.min(columns - 1, column));
      var from = figure(column * read.step), to = figure((column + 1) * read.step);
      var lines;
      if (read.at === "map") {
        var row = Math.floor((box.bottom - event.clientY) / box.height * read.names.length);
        row = Math.max(0, Math.min(read.names.length - 1, row));
        lines = [from + " to " + to + " s", read.names[row] + ": " + figure(read.values[row][column] || 0)];
      } else {
        lines = [read.at === "end" ? "at " + to + " s" : from + " to " + to + " s"];
        read.names.forEach(function (name, index) {
          lines.push(name + ": " + figure(read.values[index][column] || 0));
        });
      }
      say(lines);
      tip.hidden = false;
      cursor.hidden = false;
      cursor.style.left = (column + (read.at === "end" ? 1 : 0.5)) / columns * 100 + "%";
      var left = event.clientX + 14;
      if (left + tip.offsetWidth + 8 > document.documentElement.clientWidth) {
        left = event.clientX - tip.offsetWidth - 14;
      }
      tip.style.left = Math.max(4, left) + "px";
      tip.style.top = Math.max(4, Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 4)) + "px";
    }

    if (columns > 0) {
      plot.addEventListener("pointermove", move);
      plot.addEventListener("pointerdown", move);
      plot.addEventListener("pointerleave", leave);
      plot.addEventListener("pointercancel", leave);
    }
  }

  document.querySelectorAll("[data-read]").forEach(follow);
}());
