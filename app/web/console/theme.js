"use strict";

// Runs before anything is drawn, so that the page never flashes in the other theme.
const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
